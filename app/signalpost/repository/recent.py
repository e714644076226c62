"""What went through the outbox of late: the newest of it only, so that a look stays cheap."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from signalpost.core.lifecycle import Status

__all__ = ["MOST", "RECENT_SECONDS", "Recently", "recently"]

MOST = 20_000
"""Finished deliveries are counted up to so many, the newest; then the count is "at least"."""

RECENT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Recently:
    """What happened of late: numbers, and the seconds in which they did.

    The seconds are fewer than `RECENT_SECONDS` where so much happened that only the newest of it
    was counted.
    """

    enqueued: int
    enqueued_seconds: float
    finished: dict[Status, int]
    finished_seconds: float


_ENQUEUED_RECENTLY = text("""
SELECT count(*) AS number,
    CAST(extract(epoch FROM :now - min(created_at)) AS float8) AS seconds
FROM (
    SELECT created_at FROM signalpost.deliveries
    WHERE created_at > :now - make_interval(secs => :seconds)
    ORDER BY created_at DESC LIMIT :most) AS newest
""")

_FINISHED_RECENTLY = text("""
SELECT status, count(*) AS number,
    CAST(extract(epoch FROM :now - min(finished_at)) AS float8) AS seconds
FROM (
    SELECT status, finished_at FROM signalpost.deliveries
    WHERE finished_at IS NOT NULL AND finished_at > :now - make_interval(secs => :seconds)
    ORDER BY finished_at DESC LIMIT :most) AS newest
GROUP BY status
""")


def recently(conn: Connection, *, now: datetime, most: int = MOST) -> Recently:
    """What was enqueued and what ended in the last `RECENT_SECONDS` before `now`."""
    window = {"now": now, "seconds": RECENT_SECONDS, "most": most}
    came = conn.execute(_ENQUEUED_RECENTLY, window).one()
    went = conn.execute(_FINISHED_RECENTLY, window).all()
    number = sum(row.number for row in went)
    oldest = max((row.seconds for row in went), default=RECENT_SECONDS)
    return Recently(
        enqueued=came.number,
        enqueued_seconds=came.seconds if came.number >= most else RECENT_SECONDS,
        finished={Status(row.status): row.number for row in went},
        finished_seconds=oldest if number >= most else RECENT_SECONDS,
    )
