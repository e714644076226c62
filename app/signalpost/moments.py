"""Moments as PostgreSQL holds them, read into what Python can hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from psycopg import DataError
from psycopg.types.datetime import TimestamptzLoader

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


class Moments(TimestamptzLoader):
    """Reads any moment that PostgreSQL can hold.

    Python's years end at 1 and 9999, which a server's time zone alone can move a moment across. One
    such row would make every claim, or every look for alerts, fail that reads it among others.
    """

    def load(self, data: Any) -> datetime:
        """The moment, or the nearest that Python has."""
        try:
            return super().load(data)
        except DataError:
            early = bytes(data).endswith(b"BC") or bytes(data).startswith(b"-")
            return FIRST if early else LAST
