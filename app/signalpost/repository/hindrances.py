"""What keeps pending deliveries waiting: by cause, with the oldest; pauses and open breakers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

__all__ = ["Hindrance", "Hindrances", "OpenBreaker", "StandingPause", "hindrance_of", "hindrances"]


@dataclass(frozen=True, slots=True)
class StandingPause:
    """What a person has paused, and since when; `what` as people say it."""

    what: str
    endpoint: str | None
    entries_only: bool
    paused_at: datetime
    actor: str
    why: str


@dataclass(frozen=True, slots=True)
class OpenBreaker:
    """An endpoint that gets nothing but, from `probe_at` on, one delivery at a time as a probe."""

    endpoint: str
    opened_at: datetime
    probe_at: datetime | None
    failures: int


@dataclass(frozen=True, slots=True)
class Hindrance:
    """How many pending deliveries of an endpoint wait for one cause, and since when the oldest.

    `cause`: `order` (behind another of its key), `blocked` (behind a dead one), `superseding`
    (until what it replaces has ended), `pause`, `breaker`, `limit` (in flight, or a second),
    `retry` (due later) or `due`.
    """

    endpoint: str
    cause: str
    number: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class Hindrances:
    """All that stands in the way at this moment."""

    pauses: tuple[StandingPause, ...]
    breakers: tuple[OpenBreaker, ...]
    held: tuple[Hindrance, ...]


_LONG_DUE_SECONDS = 0.5

_CAUSES = f"""
SELECT d.id, e.name AS endpoint, d.created_at, o.blocked_by, CASE
    WHEN d.held = 'superseding' THEN 'superseding'
    WHEN d.held IS NOT NULL AND b.id IS NOT NULL THEN 'blocked'
    WHEN d.held IS NOT NULL THEN 'order'
    WHEN d.parked THEN 'pause'
    WHEN d.next_attempt_at > statement_timestamp() THEN 'retry'
    WHEN EXISTS (
        SELECT FROM signalpost.pauses p
        WHERE (p.scope = 'all' OR p.endpoint_id = d.endpoint_id)
          AND NOT (p.entries_only AND d.priority = 1)) THEN 'pause'
    WHEN e.opened_at IS NOT NULL THEN 'breaker'
    WHEN (e.max_in_flight IS NOT NULL OR e.rate_per_second IS NOT NULL) AND d.next_attempt_at
        < statement_timestamp() - make_interval(secs => {_LONG_DUE_SECONDS}) THEN 'limit'
    ELSE 'due' END AS cause
FROM signalpost.deliveries d
JOIN signalpost.endpoints e ON e.id = d.endpoint_id
LEFT JOIN signalpost.orderings o ON d.held IS NOT NULL
    AND o.endpoint_id = d.endpoint_id AND o.ordering_key = d.ordering_key
LEFT JOIN signalpost.deliveries b ON b.id = o.blocked_by AND b.status = 'dead'
WHERE d.status = 'pending'"""

_HELD = text(f"""
SELECT endpoint, cause, count(*) AS number, min(created_at) AS oldest FROM ({_CAUSES}
    AND (CAST(:endpoint AS text) IS NULL OR (e.name = :endpoint AND e.removed_at IS NULL))) held
GROUP BY endpoint, cause
ORDER BY min(created_at), endpoint, cause
""")

_OF_ONE = text(f"{_CAUSES} AND d.id = CAST(:id AS uuid)")

_PAUSES = text("""
SELECT CASE p.scope WHEN 'all' THEN 'everything' WHEN 'endpoint' THEN 'endpoint ' || e.name
        ELSE p.scope || ' ' || p.value END AS what,
    e.name AS endpoint, p.entries_only, p.paused_at, p.actor, p.why
FROM signalpost.pauses p LEFT JOIN signalpost.endpoints e ON e.id = p.endpoint_id
ORDER BY p.paused_at, p.id
""")

_BREAKERS = text("""
SELECT name AS endpoint, opened_at, probe_at, failures FROM signalpost.endpoints
WHERE opened_at IS NOT NULL AND removed_at IS NULL
ORDER BY opened_at, name
""")


def hindrances(conn: Connection, *, endpoint: str | None = None) -> Hindrances:
    """What stands in the way of pending deliveries: of all, or those of one live endpoint."""
    return Hindrances(
        pauses=tuple(StandingPause(**row) for row in conn.execute(_PAUSES).mappings()),
        breakers=tuple(OpenBreaker(**row) for row in conn.execute(_BREAKERS).mappings()),
        held=tuple(
            Hindrance(**row) for row in conn.execute(_HELD, {"endpoint": endpoint}).mappings()
        ),
    )


def hindrance_of(conn: Connection, delivery_id: UUID) -> tuple[str, UUID | None] | None:
    """The cause for which a pending delivery waits, and the dead one that blocks it."""
    row = conn.execute(_OF_ONE, {"id": delivery_id}).one_or_none()
    if row is None:
        return None
    return row.cause, row.blocked_by if row.cause == "blocked" else None
