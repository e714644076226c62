"""The first half of a claim: who has something due and may have it, with limits locked.

Endpoints are looked at one by one through a partial index, never their waiting rows: what is
paused, held or behind an open breaker costs nothing, however much of it there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.breaker import RELEASE_SECONDS
from signalpost.core.shares import Waiting

__all__ = ["GOVERNED", "NOW", "READY", "Look", "look_around", "look_at"]

NOW = "COALESCE(CAST(:now AS timestamptz), statement_timestamp())"

READY = "d.status = 'pending' AND d.held IS NULL AND NOT d.parked"

MOST_ENDPOINTS = 200
"""So many a claim serves at most; the least loaded come first, so all have their turn."""

GOVERNED = f"""(e.max_in_flight IS NOT NULL OR e.rate_per_second IS NOT NULL
    OR e.opened_at IS NOT NULL
    OR COALESCE(e.released_at > {NOW} - make_interval(secs => {RELEASE_SECONDS}), false))"""

# A claim passes over what is locked. But where a row has changed since the statement began, and its
# new version is locked by another transaction, PostgreSQL waits for that one in spite of SKIP
# LOCKED; and a producer's may last. Shorter than `deadlock_timeout` too, unless a server is set
# otherwise, so that a claim gives up before it can be ended as a deadlock.
HURRY = "set_config('lock_timeout', '250ms', true)"

# One row whatever there is, so that the flags always come.
_FLAGS = f"""
flags AS MATERIALIZED (
    SELECT {HURRY} AS hurry,
        EXISTS (SELECT FROM signalpost.deliveries
                WHERE status = 'pending' AND held = 'new') AS unplaced,
        EXISTS (SELECT FROM signalpost.pauses
                WHERE scope IN ('producer', 'instrument')) AS narrow,
        EXISTS (SELECT FROM signalpost.orderings) AS ordered,
        EXISTS (SELECT FROM signalpost.pauses WHERE scope = 'all') AS paused,
        EXISTS (SELECT FROM signalpost.pauses WHERE scope = 'all' AND NOT entries_only) AS stopped
)"""

_LOCKED = """
locked AS MATERIALIZED (
    SELECT id FROM signalpost.endpoints
    WHERE id IN (SELECT id FROM due WHERE governed)
    ORDER BY id
    FOR NO KEY UPDATE SKIP LOCKED
)
SELECT flags.unplaced, flags.narrow, flags.ordered,
    due.id, due.high_since, due.normal_since, due.governed,
    due.governed AND locked.id IS NULL AS missed
FROM flags LEFT JOIN due ON true LEFT JOIN locked ON locked.id = due.id
ORDER BY due.place"""


def _lane(priority: int) -> str:
    return f"""(
        SELECT d.next_attempt_at FROM signalpost.deliveries d
        WHERE d.endpoint_id = e.id AND d.priority = {priority} AND {READY}
          AND d.next_attempt_at <= {NOW} - make_interval(secs => :overdue_seconds)
        ORDER BY d.next_attempt_at LIMIT 1)"""


_LOOK_AROUND = text(f"""
WITH {_FLAGS}, busy AS (
    SELECT * FROM unnest(CAST(:busy_ids AS bigint[]), CAST(:busy_flights AS int[]))
        AS busy (endpoint_id, flights)
), due AS MATERIALIZED (
    SELECT e.id, high.next_attempt_at AS high_since, normal.next_attempt_at AS normal_since,
        {GOVERNED} AS governed,
        row_number() OVER (
            ORDER BY high.next_attempt_at IS NULL, COALESCE(busy.flights, 0),
                LEAST(high.next_attempt_at, normal.next_attempt_at)) AS place
    FROM flags
    CROSS JOIN signalpost.endpoints e
    LEFT JOIN signalpost.pauses p ON p.scope = 'endpoint' AND p.endpoint_id = e.id
    LEFT JOIN busy ON busy.endpoint_id = e.id
    LEFT JOIN LATERAL {_lane(1)} high ON true
    LEFT JOIN LATERAL {_lane(0)} normal
        ON NOT flags.paused AND p.id IS NULL AND NOT :high_only
    WHERE NOT flags.stopped AND (p.id IS NULL OR p.entries_only)
      AND (e.opened_at IS NULL OR e.probe_at <= {NOW})
      AND (high.next_attempt_at IS NOT NULL OR normal.next_attempt_at IS NOT NULL)
    ORDER BY place
    LIMIT {MOST_ENDPOINTS}
), {_LOCKED}
""")

_LOOK_AT = text(f"""
WITH {_FLAGS}, due AS MATERIALIZED (
    SELECT e.id, {NOW} AS high_since,
        CASE WHEN NOT flags.paused AND p.id IS NULL AND NOT :high_only THEN {NOW} END
            AS normal_since,
        {GOVERNED} AS governed, 1 AS place
    FROM flags
    CROSS JOIN signalpost.endpoints e
    LEFT JOIN signalpost.pauses p ON p.scope = 'endpoint' AND p.endpoint_id = e.id
    WHERE e.id IN (
        SELECT d.endpoint_id FROM signalpost.deliveries d
        WHERE d.id = ANY(CAST(:ids AS uuid[])) AND {READY} AND d.next_attempt_at <= {NOW})
      AND NOT flags.stopped AND (p.id IS NULL OR p.entries_only)
      AND (e.opened_at IS NULL OR e.probe_at <= {NOW})
), {_LOCKED}
""")


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found.

    ``waiting``: endpoints with something due that may have it, the least loaded first.
    ``crowd``: there may be more of them than one look lists.
    ``unplaced``: there are ordered deliveries that have no place yet. ``narrow``: a producer or an
    instrument is paused. ``ordered``: there are ordering keys. ``missed``: an endpoint was left out
    because somebody else claims there.
    """

    waiting: list[Waiting]
    unplaced: bool
    narrow: bool
    ordered: bool
    missed: bool
    crowd: bool = False


def look_around(
    connection: Connection,
    *,
    flights: Mapping[int, int],
    overdue_seconds: float,
    high_only: bool,
    now: datetime | None,
) -> Look:
    """Find the endpoints that have something due; lock those whose limits bind."""
    rows = connection.execute(
        _LOOK_AROUND,
        {
            "busy_ids": list(flights),
            "busy_flights": list(flights.values()),
            "overdue_seconds": overdue_seconds,
            "high_only": high_only,
            "now": now,
        },
    ).all()
    return _look(rows)


def look_at(
    connection: Connection, ids: Sequence[UUID], *, high_only: bool, now: datetime | None
) -> Look:
    """The same for the endpoints of these deliveries only."""
    values = {"ids": list(ids), "high_only": high_only, "now": now}
    return _look(connection.execute(_LOOK_AT, values).all())


def _look(rows: Sequence[Row[Any]]) -> Look:
    found = [row for row in rows if row.id is not None]
    return Look(
        waiting=[
            Waiting(
                endpoint_id=row.id,
                high=row.high_since is not None,
                normal=row.normal_since is not None,
                governed=row.governed,
            )
            for row in found
            if not row.missed
        ],
        unplaced=rows[0].unplaced,
        narrow=rows[0].narrow,
        ordered=rows[0].ordered,
        missed=any(row.missed for row in found),
        crowd=len(found) >= MOST_ENDPOINTS,
    )
