"""What has just happened, told once each: the turns of the demo's story. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from signalpost.demo.ledger import Receipt, Verdict
from signalpost.repository.evidence import Evidence

__all__ = ["Storyteller"]


@dataclass(slots=True)
class Storyteller:
    """Looks at both sides again and again and tells each turn the first time it is seen."""

    told: set[str] = field(default_factory=set)

    def turns(self, evidence: Evidence, ledger: list[Receipt], alerts: int) -> Iterator[str]:
        """Yield a line for each turn that is new."""
        for name, line in _seen(evidence, ledger, alerts):
            if name not in self.told:
                self.told.add(name)
                yield line


def _seen(evidence: Evidence, ledger: list[Receipt], alerts: int) -> Iterator[tuple[str, str]]:
    if accepted := next((line for line in ledger if line.verdict is Verdict.ACCEPTED), None):
        yield "accepted", f"first signal verified and accepted (delivery {accepted.delivery})"
    if any(line.verdict is Verdict.BAD_SIGNATURE for line in ledger):
        yield "forged", "a request with a forged signature was refused with 401"
    if refused := next((line for line in ledger if line.verdict is Verdict.REFUSED), None):
        yield "refused", f"{refused.endpoint} refused one for good with 422 ({refused.delivery})"
    failing = [line for line in ledger if line.verdict is Verdict.FAILED]
    if failing:
        yield "failing", f"{failing[0].endpoint} is out of order and answers 503"
    answered = {
        line.delivery for line in ledger if line.verdict in (Verdict.ACCEPTED, Verdict.REFUSED)
    }
    if failing and any(line.at > failing[-1].at for line in _accepted_at(ledger, failing[0])):
        yield "back", f"{failing[0].endpoint} is back"
        if all(line.delivery in answered for line in failing):
            count = len({line.delivery for line in failing})
            yield (
                "caught up",
                f"all {count} deliveries that had failed there were retried and answered",
            )
    if dead := next((fact for fact in evidence.deliveries if fact.reason == "exhausted"), None):
        yield "exhausted", f"{dead.endpoint}: the first delivery has used up its retries"
    if late := next((fact for fact in evidence.deliveries if fact.status == "expired"), None):
        yield "expired", f"{late.endpoint}: its breaker is open; the first that waited has expired"
    if alerts:
        yield "alert", "the first alert has arrived at the Bot API"


def _accepted_at(ledger: list[Receipt], like: Receipt) -> Iterator[Receipt]:
    for line in ledger:
        if line.endpoint == like.endpoint and line.verdict is Verdict.ACCEPTED:
            yield line
