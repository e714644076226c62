"""The kinds of alerts, which of them may be quiet, and the pace at which messages go out.

Pure. An alert that tells of the end of a delivery is never quiet: no end is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

LOUD_KINDS = ("dead", "expired", "corrected")
"""Kinds about a delivery: they cannot be made quiet, and go before all others."""

ENDS = {
    "endpoint_trouble": "endpoint_well",
    "redis_gone": "redis_back",
    "worker_gone": "worker_back",
    "stalled": "moving",
}
"""The kinds of troubles that last, each with the kind that tells of its end."""

QUIETABLE_KINDS = (
    *(kind for pair in ENDS.items() for kind in pair),
    "endpoint_refuses",
    "clock_off",
    "secret_unreadable",
    "heartbeat",
)
"""Kinds about the system, any of which a person may choose not to be told."""

STRATEGY_KINDS = ("owner", "delivery_error")
"""Kinds that a strategy raises itself (`signalpost.direct`): never quiet, as it asked for them."""

KINDS = (*LOUD_KINDS, *STRATEGY_KINDS, *QUIETABLE_KINDS)

RATE_SECONDS = 60.0
LONGEST_SILENCE_SECONDS = 3600.0
"""No pause that Telegram asks for is kept for longer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How alerts become messages.

    ``window_seconds``: after a message, further alerts of its kind wait until so long after it and
    then go out as one message. ``messages_per_minute``: of all kinds together. ``quiet_kinds``
    are stored and never sent.
    """

    window_seconds: float = 60.0
    messages_per_minute: int = 10
    quiet_kinds: frozenset[str] = frozenset()

    @property
    def hushed(self) -> frozenset[str]:
        """The quiet kinds, each trouble with its end, and none that cannot be quiet."""
        ends = {ENDS[kind] for kind in self.quiet_kinds if kind in ENDS}
        return (self.quiet_kinds | ends) & frozenset(QUIETABLE_KINDS)


def lately(begun: Sequence[datetime], now: datetime) -> list[datetime]:
    """The messages of the last minute; one begun later than ``now`` is of another clock."""
    return [moment for moment in begun if now - timedelta(seconds=RATE_SECONDS) < moment <= now]


def may_begin(
    pace: Pace, begun: Sequence[datetime], silent_until: datetime | None, now: datetime
) -> bool:
    """Tell whether a message may be begun now.

    Args:
        pace: the rate.
        begun: when the last messages were begun.
        silent_until: the end of the pause that Telegram asked for, if any.
        now: database time.
    """
    if silent_until is not None:
        left = (silent_until - now).total_seconds()
        if 0 < left <= LONGEST_SILENCE_SECONDS:
            return False
    return len(lately(begun, now)) < pace.messages_per_minute
