"""How long a signal took from the strategy's call to the receiver, while all was well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from signalpost.demo.crosscheck import Called
from signalpost.demo.ledger import Receipt, Verdict

__all__ = ["Latency", "percentile", "quiet_latency"]

MARGIN_SECONDS = 1.0
"""A signal enqueued this shortly before the first failure may have been on its way into it."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in seconds over ``count`` deliveries."""

    count: int
    p50: float
    p99: float


def quiet_latency(called: Sequence[Called], ledger: Sequence[Receipt]) -> Latency | None:
    """Measure from just before ``enqueue`` to the arrival of the request that was accepted.

    Left out are signals enqueued while the receiver failed, or while it caught up on what had
    failed: they measure the outage. Both clocks are this machine's.
    """
    failed = [line for line in ledger if line.verdict is Verdict.FAILED]
    delayed = {line.delivery for line in failed}
    begin = min((line.at for line in failed), default=math.inf)
    caught_up = max((line.at for line in ledger if line.delivery in delayed), default=math.inf)
    calls = {
        str(call.signal_id): at
        for call in called
        if not begin - MARGIN_SECONDS <= (at := call.at.timestamp()) <= caught_up
    }
    spans = [
        line.at - calls[line.signal]
        for line in ledger
        if line.verdict is Verdict.ACCEPTED and line.signal in calls
    ]
    if not spans:
        return None
    return Latency(len(spans), percentile(spans, 0.5), percentile(spans, 0.99))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of the values (0 to 1, not empty) do not exceed: nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
