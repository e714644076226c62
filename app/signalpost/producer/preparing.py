"""From what a strategy hands over to what the outbox stores, and to what Redis is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from numbers import Real
from typing import Any, Final, Literal

from signalpost.broker import Announcement
from signalpost.core.signals import Signal, check_body_size, check_key
from signalpost.errors import NoEndpoint, SignalError
from signalpost.repository.enqueueing import Life, Way
from signalpost.repository.recognising import NewSignal, Stored

__all__ = [
    "DEFAULT",
    "Priority",
    "Ttl",
    "announcements",
    "endpoint_names",
    "life",
    "prepared",
    "prepared_many",
    "way",
]

LONGEST_SECONDS = 100 * 366 * 86400
_NUMBERS: tuple[Any, ...] = (Real, Decimal)


class _Default(Enum):
    DEFAULT = "default"

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = _Default.DEFAULT
"""A ttl that is not given: the endpoint's, else SIGNAL_TTL_SECONDS."""

Priority = Literal["normal", "high"]
"""`high`: stops and closes, before everything of other ordering keys."""

LONGEST_KEY = 200

Ttl = float | None | Literal[_Default.DEFAULT]


def prepared(
    signal: Signal | Mapping[str, Any], key: str | None, *, producer_id: str, most_bytes: int
) -> NewSignal:
    """The signal as it is stored, with its id and key. Raises SignalError."""
    made = signal if isinstance(signal, Signal) else _made(signal)
    identified = made.identified(producer_id, key)
    signal_id, body = identified.id, identified.body()
    if signal_id is None:
        raise SignalError("id: could not be derived")
    check_body_size(body, most_bytes)
    return NewSignal(
        id=signal_id,
        key=str(signal_id) if key is None else check_key(key),
        body=body,
        instrument=identified.instrument,
        side=identified.side,
        action=identified.action,
        expires_at=identified.expires_at,
        confidence=identified.confidence,
    )


def _made(fields: object) -> Signal:
    if not isinstance(fields, Mapping):
        raise SignalError("signal: must be a Signal, or a mapping with the fields of one")
    return Signal.model_validate(dict(fields))


def prepared_many(
    signals: Sequence[Signal | Mapping[str, Any]], *, producer_id: str, most_bytes: int
) -> list[NewSignal]:
    """The same for many; a SignalError tells the problems of all, by position from 0."""
    made, problems = [], []
    for position, signal in enumerate(signals):
        try:
            made.append(prepared(signal, None, producer_id=producer_id, most_bytes=most_bytes))
        except SignalError as error:
            problems += [f"[{position}] {problem}" for problem in error.problems]
    if problems:
        raise SignalError(*problems)
    return made


def life(ttl: Ttl, default_seconds: float) -> Life:
    """How long deliveries live; `ttl` in seconds, None for ever. Raises SignalError."""
    if ttl is DEFAULT:
        return Life(default_ttl_seconds=default_seconds)
    if ttl is None:
        return Life(default_ttl_seconds=default_seconds, never=True)
    seconds = _seconds(ttl)
    if not 0 < seconds <= LONGEST_SECONDS:
        raise SignalError("ttl: must be seconds above 0, or None for a signal that never expires")
    return Life(default_ttl_seconds=default_seconds, ttl_seconds=seconds)


def _seconds(ttl: object) -> float:
    if isinstance(ttl, _NUMBERS) and not isinstance(ttl, bool):
        with suppress(ValueError, OverflowError):  # a signalling NaN, an int that no float holds
            return float(ttl)
    return math.nan


def endpoint_names(endpoints: Sequence[Any] | None) -> list[str] | None:
    """The names; one name alone is meant as such, not as its letters. Raises NoEndpoint."""
    if endpoints is None:
        return None
    names = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    for name in names:
        # Of anything else PostgreSQL's driver makes an error of its own.
        if not (isinstance(name, str) and name.isprintable()):
            raise NoEndpoint(
                f"there is no endpoint named {ascii(name)[:80]}, so nothing was written; "
                "`signalpost endpoint list` shows those there are"
            )
    return names


def announcements(signals: Sequence[NewSignal], stored: Sequence[Stored]) -> list[Announcement]:
    """What Redis is to be told: every delivery that is still to be sent.

    Those of duplicates too: the first call may have ended before it could announce them.
    """
    return [
        Announcement(delivery.delivery_id, signal.id, signal.instrument, delivery.endpoint)
        for signal, row in zip(signals, stored, strict=True)
        for delivery in row.deliveries
        if delivery.status == "pending"
    ]


def way(priority: Priority, ordering_key: str | None, supersede_key: str | None = None) -> Way:
    """How deliveries go out beside others. Raises SignalError."""
    if priority not in ("normal", "high"):
        raise SignalError("priority: must be normal or high")
    for name, key in (("ordering_key", ordering_key), ("supersede_key", supersede_key)):
        if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isprintable()):
            raise SignalError(f"{name}: must be 1 to {LONGEST_KEY} printable characters")
    return Way(high=priority == "high", ordering_key=ordering_key, supersede_key=supersede_key)
