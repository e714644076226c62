"""What keeps deliveries waiting, told for people: pauses, open breakers, counts by cause."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from signalpost.cli.printing import age

if TYPE_CHECKING:
    from uuid import UUID

    from signalpost.repository.hindrances import Hindrance, Hindrances, OpenBreaker, StandingPause

__all__ = ["because", "breaker_line", "held_line", "pause_line", "state_of"]

_WORDS = {
    "order": "behind another of their key",
    "blocked": "blocked by a dead one",
    "superseding": "until what they replace has ended",
    "pause": "by a pause",
    "breaker": "by an open breaker",
    "limit": "by a limit",
    "retry": "until their retry",
    "due": "due now",
}

_BECAUSE = {
    "order": "it is held behind another delivery of its ordering key",
    "superseding": "it is held until the delivery that it replaces has ended",
    "pause": "it is held by a pause (`signalpost status` shows who, when and why)",
    "breaker": "its endpoint's breaker is open: one delivery at a time tries",
    "limit": "its endpoint's limit on requests holds it",
}


def pause_line(pause: StandingPause, now: datetime) -> str:
    """What is paused, by whom, for how long, and why."""
    only = ", entries only" if pause.entries_only else ""
    why = f": {pause.why}" if pause.why else ""
    since = age((now - pause.paused_at).total_seconds())
    return f"paused {pause.what}{only} for {since} by {pause.actor}{why}"


def breaker_line(breaker: OpenBreaker, now: datetime) -> str:
    """Whose breaker is open, for how long, and when the next probe goes."""
    left = None if breaker.probe_at is None else (breaker.probe_at - now).total_seconds()
    probe = "one delivery tries now" if left is None or left <= 0 else f"next try in {age(left)}"
    since = age((now - breaker.opened_at).total_seconds())
    return f"breaker of {breaker.endpoint} open for {since}, {probe}"


def held_line(held: Hindrance, now: datetime) -> str:
    """How many wait for a cause, and for how long the oldest does."""
    since = age((now - held.oldest).total_seconds())
    return f"{held.number:,} {_WORDS.get(held.cause, held.cause)}, the oldest for {since}"


def state_of(endpoint: str, found: Hindrances) -> str:
    """In a word or two whether something holds an endpoint."""
    words = [
        "paused (entries only)" if pause.entries_only else "paused"
        for pause in found.pauses
        if pause.endpoint == endpoint or pause.what == "everything"
    ]
    words += ["breaker open" for breaker in found.breakers if breaker.endpoint == endpoint]
    words += [
        f"{held.number} blocked"
        for held in found.held
        if held.endpoint == endpoint and held.cause == "blocked"
    ]
    return ", ".join(dict.fromkeys(words)) or "open"


def because(hindrance: tuple[str, UUID | None] | None) -> str | None:
    """Why a pending delivery is not under way, beside its time; None: nothing holds it."""
    if hindrance is None:
        return None
    cause, blocked_by = hindrance
    if cause == "blocked":
        return (
            f"it is blocked by a dead one before it; `signalpost replay {blocked_by}` sends that "
            f"first, `signalpost skip {blocked_by}` leaves it out"
        )
    return _BECAUSE.get(cause)
