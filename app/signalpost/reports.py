"""How an attempt ended, in ids and labels only: fit for logs, Flower and task results."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from signalpost.core.lifecycle import Status
from signalpost.core.outcomes import Outcome
from signalpost.repository.claimed import Claim, Expired, Unclaimed
from signalpost.repository.recorded import Record, Recorded

logger = logging.getLogger("signalpost.deliveries")

SHUTTING_DOWN = "shutting down"

MOST_LINES = 100
"""So many attempts a drain tells of by name; it may make thousands, and its result is kept whole
by whoever watches."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a delivery when a worker took it, or wanted to.

    ``outcome`` is an attempt's outcome, ``expired``, or ``not_claimed``; ``detail`` says why in a
    word; ``retry_in_seconds`` is set where it will be tried again.
    """

    delivery_id: UUID
    outcome: str
    detail: str = ""
    signal_id: UUID | None = None
    instrument: str = ""
    endpoint: str = ""
    endpoint_id: int | None = None
    attempt: int | None = None
    status: str = ""
    retry_in_seconds: float | None = None
    alert_id: int | None = None
    notices: tuple[int, ...] = ()
    """Alerts about its endpoint that it raised."""
    makes_room: bool = False
    """Another delivery may go, now that this attempt has ended."""

    @property
    def shutting_down(self) -> bool:
        """Whether it was left alone only because this process ends."""
        return self.detail == SHUTTING_DOWN

    @property
    def alert_ids(self) -> list[int]:
        """The alerts that it raised, about its delivery or its endpoint."""
        return [*self.notices, *([] if self.alert_id is None else [self.alert_id])]

    def facts(self) -> dict[str, object]:
        """What is known, by the same words as everywhere else."""
        pairs = [
            ("delivery", self.delivery_id),
            ("signal", self.signal_id),
            ("instrument", self.instrument),
            ("endpoint", self.endpoint),
            ("attempt", self.attempt),
            ("outcome", self.outcome),
            ("detail", self.detail),
            ("status", self.status),
            (
                "retry_in",
                None if self.retry_in_seconds is None else f"{self.retry_in_seconds:.1f}s",
            ),
        ]
        return {name: value for name, value in pairs if value not in (None, "")}

    def line(self) -> str:
        """One line of key=value pairs."""
        return _line(self.facts())


class Tally(Counter[str]):
    """How many attempts ended how; ``lines`` tell of the first :data:`MOST_LINES` of them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def add(self, report: Report) -> None:
        """Count what became of one delivery."""
        self[report.outcome] += 1
        if len(self.lines) < MOST_LINES:
            self.lines.append(report.line())

    def so_far(self, *, under_way: int) -> Tally:
        """Return a copy, which no attempt that is still under way adds to."""
        told = Tally()
        told.update(self)
        told.lines.extend(self.lines)
        if under_way:
            told["under_way"] = under_way
        return told


_HELD = {
    "order": "another one of its ordering key goes first",
    "pause": "it is paused, or its endpoint's breaker is open",
    "limit": "its endpoint's limit is reached",
    "share": "its endpoint has its share of this worker",
}
"""Whoever removes the hindrance looks again, so its message is not needed any more."""


def attempt_report(claim: Claim, item: Record, recorded: Recorded | None) -> Report:
    """Report an attempt that was recorded."""
    # It may have been cancelled meanwhile; then the retry that was decided does not come.
    again = recorded is not None and recorded.applied and recorded.status is Status.PENDING
    return Report(
        delivery_id=claim.delivery_id,
        outcome=item.verdict.outcome.value,
        detail=item.verdict.reason,
        signal_id=claim.signal_id,
        instrument=claim.instrument,
        endpoint=claim.endpoint,
        endpoint_id=claim.endpoint_id,
        attempt=claim.attempt,
        status="deleted" if recorded is None else recorded.status.value,
        retry_in_seconds=item.decision.delay_seconds if again else None,
        alert_id=None if recorded is None else recorded.alert_id,
        notices=() if recorded is None else recorded.notices,
        makes_room=claim.governed or (recorded is not None and recorded.freed),
    )


def expired_report(expired: Expired) -> Report:
    """Report a delivery whose life was over when it was claimed."""
    return Report(expired.delivery_id, "expired", status="expired")


def unclaimed_report(unclaimed: Unclaimed) -> Report:
    """Report a delivery that was asked for and could not be claimed, and why."""
    status = unclaimed.status
    retry_in = None
    if status is None:
        detail = "no such delivery"
    elif status == "sending":
        detail = "another claim is under way"
    elif status == "pending":
        due = unclaimed.due_in_seconds
        if unclaimed.held is not None:
            detail = _HELD[unclaimed.held]
        elif due is not None and due > 0:
            detail, retry_in = "not due yet", due
        else:
            detail = "another worker is at it"
    else:
        detail = "finished already"
    return Report(
        unclaimed.delivery_id,
        "not_claimed",
        detail,
        status=status or "",
        retry_in_seconds=retry_in,
    )


def log(report: Report) -> None:
    """Write the line of an attempt; loud where a person should look."""
    quiet = report.outcome in (Outcome.DELIVERED, Outcome.RELEASED, "not_claimed")
    level = logging.INFO if quiet else logging.WARNING
    if logger.isEnabledFor(level):
        facts = report.facts()
        logger.log(level, "%s", _line(facts), extra={"facts": facts})


def _line(facts: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in facts.items())
