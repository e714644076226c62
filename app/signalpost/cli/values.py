"""The values that options take: spans of time, moments, ids or their beginnings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import click

__all__ = [
    "IdRange",
    "alert_id",
    "chosen_id",
    "id_range",
    "instrument",
    "instrument_glob",
    "life",
    "moment",
    "producer_id",
    "span",
]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|sec|min|m|h|d)?")
_SURE_DIGITS = 8
_LONGEST_LIFE_SECONDS = 366 * 86_400
_LONGEST_SPAN_SECONDS = 1000 * _LONGEST_LIFE_SECONDS
"""Nobody means more; and what counts in seconds somewhere below takes no more."""
_SECONDS = {"ms": 0.001, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class IdRange:
    """The ids that begin as it was written; one id where it was written in full."""

    written: str
    low: UUID
    high: UUID


def span(text: str) -> float:
    """Seconds, from a number (of seconds) or a number with ms, s, m, h or d."""
    seconds = _seconds(text)
    if seconds is None:
        raise click.BadParameter("write a span of time such as 30, 500ms, 2s, 5m, 2h or 1d")
    return seconds


def moment(text: str) -> datetime:
    """A moment, from a time with its zone or a span back from now."""
    if (seconds := _seconds(text)) is not None:
        return datetime.now(UTC) - timedelta(seconds=seconds)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.utcoffset() is None:
        raise click.BadParameter(
            "write a span back from now (10m, 2h, 1d) or a time with its zone "
            "(2026-01-31T09:30:00Z)"
        )
    return found


def id_range(text: str) -> IdRange:
    """The range of ids that a person's beginning of one (4 digits at least) stands for."""
    digits = text.strip().lower().replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{4,32}", digits):
        raise click.BadParameter(f"{text!r} is no id; write one, or at least its first 4 digits")
    return IdRange(text, UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f")))


def chosen_id(text: str) -> IdRange:
    """The same where something is done to it: a slip of the pen must not hit another delivery."""
    if len(text.strip().replace("-", "")) < _SURE_DIGITS:
        raise click.BadParameter(
            f"{text!r} is too short to act upon; write the id, or its first {_SURE_DIGITS} digits"
        )
    return id_range(text)


def alert_id(text: str) -> int:
    """The number of an alert."""
    digits = text.strip()
    if not re.fullmatch(r"[0-9]{1,18}", digits) or int(digits) == 0:
        raise click.BadParameter(
            f"{text!r} is no alert's number; `signalpost alerts list` shows those there are"
        )
    return int(digits)


def instrument(text: str) -> str:
    """An instrument's name; one that cannot be one would match nothing, in silence."""
    if not re.fullmatch(r"[A-Z0-9._-]{2,20}", text):
        raise click.BadParameter(
            f"{text!r} is no instrument: 2 to 20 capital letters, digits, dots and hyphens"
        )
    return text


def instrument_glob(text: str) -> str:
    """A pattern of instruments; one that fits none would do nothing, in silence."""
    if not re.fullmatch(r"[A-Z0-9._*?-]{1,20}", text):
        raise click.BadParameter(
            f"{text!r} fits no instrument: 1 to 20 capital letters, digits, dots and hyphens, "
            "with * for any and ? for one of them"
        )
    return text


def producer_id(text: str) -> str:
    """The name of a producer, as the settings take it."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise click.BadParameter("must be 1 to 64 letters, digits, underscores and hyphens")
    return text


def life(text: str) -> float:
    """A span that a delivery can live for: from a second to a year."""
    seconds = span(text)
    if not 1 <= seconds <= _LONGEST_LIFE_SECONDS:
        raise click.BadParameter("must be from 1s to 366d")
    return seconds


def _seconds(text: str) -> float | None:
    found = _SPAN.fullmatch(text.strip().lower())
    seconds = float(found[1]) * _SECONDS[found[2] or "s"] if found else None
    if seconds is not None and seconds > _LONGEST_SPAN_SECONDS:
        days = f"{_LONGEST_SPAN_SECONDS // 86_400:.0f}"
        raise click.BadParameter(f"is longer than {days} days; counted back it is before all times")
    return seconds
