"""What an attempt brought back (:class:`Answer`) and what it meant (:class:`Verdict`).

Pure: the table of docs/lifecycle.md, "How an attempt moves it". Reads no clock, draws no chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum


class Phase(StrEnum):
    """The furthest step that an attempt had begun, in this order."""

    NONE = "none"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    SENT = "sent"
    """A byte of the request may have left."""
    HEADERS = "headers"
    """The response's status line and headers arrived."""
    BODY = "body"
    """The response's body was being read, or was read."""

    @property
    def wrote(self) -> bool:
        """Whether the receiver may have seen a byte of the request."""
        return self in (Phase.SENT, Phase.HEADERS, Phase.BODY)


class Failure(StrEnum):
    """Why an attempt has no usable answer."""

    DNS = "dns_failure"
    CONNECT = "connect_failure"
    TLS = "tls_failure"
    ADDRESS = "address_refused"
    TIMEOUT = "timeout"
    RESET = "connection_lost"
    PROTOCOL = "bad_response"
    URL = "invalid_url"
    EXPIRED = "expired"
    LEASE = "lease_lapsed"
    SHUTDOWN = "shutdown"
    CLOCK = "clock_off"
    SECRET = "secret_unreadable"  # noqa: S105 - the name of a failure
    PAUSED = "paused"
    STALE = "pauses_unknown"
    LOST = "claim_lost"
    INTERNAL = "internal_error"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one attempt brought back; the sender makes it, this module judges it."""

    phase: Phase
    duration_seconds: float
    status_code: int | None = None
    """Set whenever a status line was read, also if the body then failed."""
    failure: Failure | None = None
    detail: str = ""
    """Short, in our words; never the receiver's bytes, never private."""
    retry_after: str | None = None
    """The raw ``Retry-After`` header."""
    date: str | None = None
    """The raw ``Date`` header."""
    excerpt: bytes = b""
    """The first 4096 bytes of the response's body at most, undecoded."""


class Outcome(StrEnum):
    """What an attempt meant."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REJECTED = "rejected"
    GONE = "gone"
    UNKNOWN = "unknown"
    """The receiver may have executed it: bytes were written and no proof came back."""
    EXPIRED = "expired"
    """Its life was over before the first byte; nothing was sent."""
    RELEASED = "released"
    """The claim was given back before anything was sent; costs nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of an answer.

    ``counted``: it costs one of the retries. ``maybe_received``: bytes went out and this answer is
    no proof that they were refused. ``reason``: short, for the attempt and the dead letter, such as
    ``http_503`` or ``timeout``.
    """

    outcome: Outcome
    reason: str
    counted: bool
    maybe_received: bool


REJECTING = frozenset({400, 405, 406, 411, 413, 414, 415, 422, 431, 451})
"""Statuses that will not change by asking again: dead at once."""

_NOT_SENT = {
    Failure.EXPIRED: Outcome.EXPIRED,
    Failure.LEASE: Outcome.RELEASED,
    Failure.SHUTDOWN: Outcome.RELEASED,
    Failure.CLOCK: Outcome.RELEASED,
    Failure.SECRET: Outcome.RELEASED,
    Failure.PAUSED: Outcome.RELEASED,
    Failure.STALE: Outcome.RELEASED,
}


def classify(answer: Answer, *, maybe_received: bool) -> Verdict:
    """Judge one answer.

    Args:
        answer: what came back.
        maybe_received: whether an earlier attempt of the delivery may have arrived (decides 409).
    """
    if answer.status_code is not None:
        return _classify_status(answer.status_code, maybe_received=maybe_received)
    failure = answer.failure or Failure.INTERNAL
    if answer.phase.wrote or failure is Failure.LOST:
        return Verdict(Outcome.UNKNOWN, failure.value, counted=True, maybe_received=True)
    outcome = _NOT_SENT.get(failure, Outcome.RETRY)
    # Resolving or connecting had begun: the receiver's side was tried, so a retry is spent; not so
    # when we ourselves stopped it.
    counted = outcome is Outcome.RETRY
    return Verdict(outcome, failure.value, counted=counted, maybe_received=False)


def _classify_status(code: int, *, maybe_received: bool) -> Verdict:
    reason = f"http_{code}"

    def verdict(outcome: Outcome, *, unproven: bool = False) -> Verdict:
        return Verdict(outcome, reason, counted=True, maybe_received=unproven)

    if 200 <= code < 300:
        return verdict(Outcome.DELIVERED)
    if code == 409:
        return verdict(Outcome.DELIVERED if maybe_received else Outcome.REJECTED)
    if code == 410:
        return verdict(Outcome.GONE)
    if code in REJECTING:
        return verdict(Outcome.REJECTED)
    # 408 and 5xx may come from a server (or a proxy before it) that had already acted; a status
    # outside HTTP's range proves nothing either.
    return verdict(Outcome.RETRY, unproven=code == 408 or not 200 <= code < 500)


def retry_after_seconds(value: str | None, *, now: datetime, cap_seconds: float) -> float | None:
    """Read a ``Retry-After`` header (RFC 9110, section 10.2.3).

    Args:
        value: the raw header: whole seconds, or an HTTP date.
        now: the current time, aware, to measure a date against.
        cap_seconds: the longest wait that is honoured.

    Returns:
        Seconds from 0 to ``cap_seconds``, or None where there is no header or it makes no sense.
    """
    text = (value or "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        text = text.lstrip("0") or "0"
        # A number of thousands of digits is a hostile way of saying "long".
        return min(float(text), cap_seconds) if len(text) < 12 else cap_seconds
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            return None
        return min(max((moment - now).total_seconds(), 0.0), cap_seconds)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
