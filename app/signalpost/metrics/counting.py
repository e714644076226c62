"""What happens in this process: attempts, their duration, retries, alerts."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from signalpost.core.outcomes import Answer, Outcome
from signalpost.repository.claimed import Claim
from signalpost.repository.recorded import Record, Recorded

__all__ = ["Counting"]

ATTEMPT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
ACCEPTANCE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 600)

_KNOWN_CODES = frozenset(status.value for status in HTTPStatus)

# A series of time stamps beside every counter, which nobody draws.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types


class Counting:
    """The instruments of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._posted = Counter(
            "signals_posted",
            "Attempts to post a signal that have ended, by outcome and by status or failure.",
            ("result", "code"),
            registry=self.registry,
        )
        self._retries = Counter(
            "retries",
            "Planned further tries, by what is tried again.",
            ("operation",),
            registry=self.registry,
        )
        self._alerts_sent = Counter(
            "alerts_sent",
            "Messages that reached the operator, with a receipt.",
            registry=self.registry,
        )
        self._duration = Histogram(
            "signal_post_duration_seconds",
            "How long an attempt took, from its claim's turn to the answer's end.",
            buckets=ATTEMPT_SECONDS,
            registry=self.registry,
        )
        self._acceptance = Histogram(
            "signal_acceptance_seconds",
            "From the enqueueing to the receiver's acceptance, retries included, replays not.",
            buckets=ACCEPTANCE_SECONDS,
            registry=self.registry,
        )
        # Label lookups are the dearest part of counting, and there are few combinations.
        self._posted_by: dict[tuple[Outcome, str], Counter] = {}
        self._delivery_retries = self._retries.labels("deliver")
        self._alert_retries = self._retries.labels("alert")

    def attempt(self, claim: Claim, item: Record, recorded: Recorded | None, now: datetime) -> None:
        """Count an attempt that was recorded at `now` (database time)."""
        outcome = item.verdict.outcome
        if outcome is Outcome.RELEASED:
            return  # given back before anything was tried
        code = _code(item.answer)
        posted = self._posted_by.get((outcome, code))
        if posted is None:
            posted = self._posted_by[outcome, code] = self._posted.labels(outcome.value, code)
        posted.inc()
        self._duration.observe(item.answer.duration_seconds)
        if outcome is Outcome.DELIVERED:
            if claim.replays == 0:
                self._acceptance.observe((now - claim.enqueued_at).total_seconds())
        elif recorded is not None and recorded.applied and item.decision.delay_seconds is not None:
            self._delivery_retries.inc()

    def alert(self, *, sent: bool) -> None:
        """Count a message that reached the operator, or that has to be tried again."""
        (self._alerts_sent if sent else self._alert_retries).inc()


def _code(answer: Answer) -> str:
    """The status, or the failure; a status that is in no list must not make a series of its own."""
    if answer.status_code is None:
        return "none" if answer.failure is None else answer.failure.value
    if answer.status_code in _KNOWN_CODES:
        return str(answer.status_code)
    return f"{answer.status_code // 100}xx" if 100 <= answer.status_code < 600 else "other"
