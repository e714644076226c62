"""What a handler is given, what it may say, and what became of each request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from signalpost.core.signals import Signal
from signalpost.core.signing import Verified
from signalpost.receiver.book import Connected, Reply

__all__ = ["Handler", "Received", "Refused", "Seen", "Verdict"]


class Refused(Exception):
    """Raised by a handler to refuse a signal: 422, nothing is kept, and its key stays free."""

    def __init__(self, message: str, *errors: str) -> None:
        super().__init__(message)
        self.message = message
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Received:
    """A verified signal, as the handler gets it; `verified` is what the signature covers.

    `missed` is for ordered endpoints: how many signals of the same ordering key, after the last one
    acted on and before this one, never came. They died on the way or were refused.
    """

    delivery_id: UUID
    signal: Signal
    verified: Verified
    received_at: datetime
    missed: int = 0


Handler = Callable[[Connected, Received], Reply | None]
"""Acts on a signal by way of the given connection, inside the book's transaction, on its thread.

It neither commits nor rolls back; None means `Reply("received")`.
"""


class Verdict(StrEnum):
    """What became of a request."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IN_PROGRESS = "in progress"
    UNVERIFIED = "unverified"
    REFUSED = "refused"
    EXPIRED = "expired"
    STALE = "out of order"
    TOO_LARGE = "too large"
    FAILED = "handler failed"
    UNAVAILABLE = "book unavailable"
    UNREADABLE = "unreadable"
    TEST = "test"
    """Verified, and no signal but the sender's test of the connection."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request and its verdict, fit for a log: ids and labels, nothing private."""

    verdict: Verdict
    status_code: int
    detail: str = ""
    delivery_id: str | None = None
    signal_id: str | None = None
    attempt: int | None = None
    instrument: str | None = None
    side: str | None = None

    @classmethod
    def of(cls, received: Received, verdict: Verdict, status_code: int, detail: str = "") -> Self:
        """The verdict on a request whose signal could be read."""
        return cls(
            verdict=verdict,
            status_code=status_code,
            detail=detail,
            delivery_id=str(received.delivery_id),
            signal_id=str(received.signal.id),
            attempt=received.verified.attempt,
            instrument=received.signal.instrument,
            side=received.signal.side,
        )
