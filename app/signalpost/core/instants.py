"""Instants on the wire: RFC 3339, read with any offset, written in UTC with microseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE = "must carry a time zone, such as datetime.now(UTC)"


def instant(value: object) -> datetime:
    """The instant in UTC, from an aware datetime or a text such as 2026-01-31T09:30:00Z.

    ValueError, naming the rule only, for anything else: a datetime without zone most of all, since
    it would mean another instant on another machine.
    """
    if isinstance(value, str):
        if not _RFC3339.fullmatch(value):
            raise ValueError("must be a time with zone (RFC 3339), such as 2026-01-31T09:30:00Z")
        moment = _parsed(value)
    else:
        moment = value if isinstance(value, datetime) else None
    if moment is None:
        raise ValueError("must be a datetime with time zone, or such a time as text in RFC 3339")
    if moment.utcoffset() is None:
        raise ValueError(_NAIVE)
    return _in_utc(moment)


def rfc3339(moment: datetime) -> str:
    """The instant as `YYYY-MM-DDThh:mm:ss.ffffffZ`; ValueError for a datetime without zone."""
    if moment.tzinfo is not UTC:
        moment = instant(moment)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def since_1970(seconds: int) -> datetime:
    """The instant so many seconds after the Unix epoch; OverflowError past the year 9999."""
    return _EPOCH + timedelta(seconds=seconds)


def _parsed(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        return None


def _in_utc(moment: datetime) -> datetime:
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be between the years 1 and 9999") from None
    # A plain datetime also where a subclass came in (pandas.Timestamp prints nanoseconds).
    return datetime.combine(utc.date(), utc.time(), UTC)
