"""What `signalpost status` reads: how much waits, for how long, and who is there to send it.

A look costs as much as there is unfinished work, however many finished deliveries the table keeps:
partial indexes are read, and what is finished is counted over a window and up to a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.core.lifecycle import Status
from signalpost.repository.reading import database_time
from signalpost.repository.recent import MOST, Recently, recently

__all__ = [
    "OVERDUE_SECONDS",
    "EndpointTrouble",
    "LastingTrouble",
    "Overview",
    "WorkerLine",
    "overview",
]

OVERDUE_SECONDS = 10.0
"""A due delivery that nobody has claimed for this long: the rescue would have had it in 3 s."""

SILENT_SECONDS = 10.0
"""A worker that has not renewed for this long is taken for dead, and its claims are taken back."""


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One start of an engine that has not ended in good order."""

    worker_id: UUID
    name: str
    started_at: datetime
    renewed_at: datetime
    alive: bool


@dataclass(frozen=True, slots=True)
class EndpointTrouble:
    """An endpoint with deliveries that wait for a retry, or with recent dead letters."""

    endpoint: str
    retrying: int
    dead_letters: int
    last_failure: str | None


@dataclass(frozen=True, slots=True)
class LastingTrouble:
    """Something that is not well, and was told to the operator; `subject` is an endpoint's name."""

    kind: str
    subject: str
    began_at: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """The outbox at a glance; every moment is database time.

    `unfinished` is exact; `finished` counts what ended in the last `window_hours`, and
    `dead_letters` those that are kept, both up to a bound (then `..._at_least` is true).
    `oldest_due_seconds` is None where nothing is due.
    """

    as_of: datetime
    unfinished: dict[Status, int]
    dead_letters: dict[Status, int]
    dead_letters_at_least: bool
    finished: dict[Status, int]
    finished_at_least: bool
    window_hours: int
    recently: Recently
    due: int
    overdue: int
    oldest_due_seconds: float | None
    alerts_unsent: int
    oldest_alert_seconds: float | None
    workers: tuple[WorkerLine, ...]
    trouble: tuple[EndpointTrouble, ...]
    lasting: tuple[LastingTrouble, ...]


def overview(
    conn: Connection, *, window_hours: int = 24, most: int = MOST, now: datetime | None = None
) -> Overview:
    """The outbox at `now` (database time by default), finished ones counted up to `most`."""
    as_of = now or database_time(conn)
    values = {"now": as_of, "hours": window_hours, "overdue": OVERDUE_SECONDS, "most": most}
    waiting = conn.execute(_WAITING, values).one()
    alerts = conn.execute(_ALERTS, values).one()
    dead = {row.status: row.number for row in conn.execute(_DEAD_LETTERS, values)}
    done = {row.status: row.number for row in conn.execute(_FINISHED, values)}
    return Overview(
        as_of=as_of,
        unfinished={Status.PENDING: waiting.pending, Status.SENDING: waiting.sending},
        dead_letters={status: dead.get(status, 0) for status in (Status.DEAD, Status.EXPIRED)},
        dead_letters_at_least=sum(dead.values()) >= most,
        finished={status: done.get(status, 0) for status in Status if status.terminal},
        finished_at_least=sum(done.values()) >= most,
        window_hours=window_hours,
        recently=recently(conn, now=as_of, most=most),
        due=waiting.due,
        overdue=waiting.overdue,
        oldest_due_seconds=waiting.oldest,
        alerts_unsent=alerts.unsent,
        oldest_alert_seconds=alerts.oldest,
        workers=_workers(conn, as_of),
        trouble=tuple(EndpointTrouble(**row) for row in conn.execute(_TROUBLE, values).mappings()),
        lasting=tuple(LastingTrouble(**row) for row in conn.execute(_LASTING).mappings()),
    )


_WAITING = text("""
SELECT count(*) AS pending,
    count(*) FILTER (WHERE next_attempt_at <= :now) AS due,
    count(*) FILTER (
        WHERE next_attempt_at <= :now - make_interval(secs => :overdue)) AS overdue,
    CAST(extract(epoch FROM :now - min(next_attempt_at) FILTER (WHERE next_attempt_at <= :now))
        AS float8) AS oldest,
    (SELECT count(*) FROM signalpost.deliveries WHERE status = 'sending') AS sending
FROM signalpost.deliveries WHERE status = 'pending'
""")

_DEAD_LETTERS = text("""
SELECT status, count(*) AS number FROM (
    SELECT status FROM signalpost.deliveries
    WHERE status IN ('dead', 'expired') ORDER BY finished_at DESC LIMIT :most) AS newest
GROUP BY status
""")

_FINISHED = text("""
SELECT status, count(*) AS number FROM (
    SELECT status FROM signalpost.deliveries
    WHERE finished_at IS NOT NULL AND finished_at > :now - make_interval(hours => :hours)
    ORDER BY finished_at DESC LIMIT :most) AS newest
GROUP BY status
""")

_ALERTS = text("""
SELECT count(*) AS unsent,
    CAST(extract(epoch FROM :now - min(created_at)) AS float8) AS oldest
FROM signalpost.alerts WHERE sent_at IS NULL
""")

# Retries are due in the future, before whatever is due now; so the bound leaves out the others.
# The last failure is looked up for the few endpoints in trouble only, through the attempts of the
# newest delivery that is in trouble there.
_TROUBLE = text("""
WITH troubled AS (
    (SELECT endpoint_id, id, created_at, true AS retrying FROM (
        SELECT endpoint_id, id, created_at, spent FROM signalpost.deliveries
        WHERE status = 'pending' ORDER BY next_attempt_at DESC LIMIT :most) AS latest
     WHERE spent > 0)
    UNION ALL
    (SELECT endpoint_id, id, finished_at, false FROM signalpost.deliveries
     WHERE status IN ('dead', 'expired') AND finished_at > :now - make_interval(hours => :hours)
     ORDER BY finished_at DESC LIMIT :most)
), counted AS (
    SELECT endpoint_id, count(*) FILTER (WHERE retrying) AS retrying,
        count(*) FILTER (WHERE NOT retrying) AS dead_letters,
        (array_agg(id ORDER BY created_at DESC))[1] AS newest
    FROM troubled GROUP BY endpoint_id
)
SELECT e.name AS endpoint, c.retrying, c.dead_letters,
    (SELECT COALESCE('http_' || a.status_code, a.failure) FROM signalpost.attempts a
     WHERE a.delivery_id = c.newest ORDER BY a.number DESC LIMIT 1) AS last_failure
FROM counted c JOIN signalpost.endpoints e ON e.id = c.endpoint_id
ORDER BY c.dead_letters DESC, c.retrying DESC, e.name
""")

_LASTING = text("""
SELECT t.kind, COALESCE(e.name, t.subject) AS subject, t.began_at
FROM signalpost.troubles t LEFT JOIN signalpost.endpoints e ON e.id = t.endpoint_id
ORDER BY t.began_at, t.kind, t.subject
""")

_WORKERS = text("""
SELECT id, name, started_at, renewed_at FROM signalpost.workers
WHERE stopped_at IS NULL AND renewed_at > :now - make_interval(hours => 1)
ORDER BY name, started_at
""")


def _workers(conn: Connection, now: datetime) -> tuple[WorkerLine, ...]:
    return tuple(
        WorkerLine(
            worker_id=row.id,
            name=row.name,
            started_at=row.started_at,
            renewed_at=row.renewed_at,
            alive=(now - row.renewed_at).total_seconds() < SILENT_SECONDS,
        )
        for row in conn.execute(_WORKERS, {"now": now})
    )
