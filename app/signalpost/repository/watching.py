"""What the ops worker looks for: endpoints in trouble, workers gone, deliveries that nobody takes.

Only partial indexes are read, and never more than :data:`MOST` rows of one, so a look costs little
however much waits. What makes an endpoint be in trouble is asked in one place,
:func:`endpoints_in_trouble`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from signalpost.core.troubles import QUIET_SECONDS, Key, Known, Trouble

__all__ = [
    "Overdue",
    "endpoints_in_trouble",
    "evidence_of_end",
    "oldest_unsent_seconds",
    "overdue",
    "workers_gone",
]

FAILURES = 5
"""So many failed attempts, with no success between, make an endpoint be in trouble."""
DEAD_FOR_SECONDS = 300.0
"""For so long the attempts of a dead letter count among the failed ones."""
OVERDUE_SECONDS = 60.0
"""Nothing may be due for longer than this without being taken; else it is told (docs/alerts.md)."""
GONE_SECONDS = 30.0
"""A worker that has neither renewed nor been stopped in order for so long is gone."""
SUCCESS_SECONDS = 300.0
"""Successes are looked for so far back; the watch looks far more often."""
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Overdue:
    """Deliveries that nobody has taken for :data:`OVERDUE_SECONDS`.

    ``count``: how many, up to about :data:`MOST`. ``oldest_seconds``: for how long one has been
    due.
    """

    count: int
    oldest_seconds: float


# Retries wait in the future, a backlog in the past: only the former are read. A rejection is an
# answer of a receiver that is well.
_FAILING = text("""
WITH failing AS (
    (SELECT endpoint_id, id, spent, attempts FROM signalpost.deliveries
     WHERE status = 'pending' AND next_attempt_at > CAST(:now AS timestamptz) - interval '5 seconds'
       AND spent > 0
     LIMIT :most)
    UNION ALL
    (SELECT endpoint_id, id, spent, attempts FROM signalpost.deliveries
     WHERE status = 'sending' AND spent > 0 LIMIT :most)
    UNION ALL
    (SELECT endpoint_id, id, spent, attempts FROM signalpost.deliveries
     WHERE status IN ('dead', 'expired') AND spent > 0 AND reason <> 'rejected'
       AND finished_at > CAST(:now AS timestamptz) - make_interval(secs => :dead_for)
     LIMIT :most)
), counted AS (
    SELECT endpoint_id, sum(spent) AS failures, count(*) AS deliveries,
        (array_agg(id ORDER BY attempts DESC, id))[1] AS example
    FROM failing GROUP BY endpoint_id HAVING sum(spent) >= :failures
)
SELECT c.endpoint_id, c.failures, c.deliveries,
    (SELECT COALESCE('HTTP ' || a.status_code, a.failure) FROM signalpost.attempts a
     WHERE a.delivery_id = c.example AND a.outcome <> 'delivered'
     ORDER BY a.number DESC LIMIT 1) AS last_failure
FROM counted c
WHERE NOT EXISTS (
    SELECT FROM signalpost.deliveries d
    WHERE d.finished_at > CAST(:now AS timestamptz) - make_interval(secs => :quiet)
      AND d.finished_at IS NOT NULL AND d.status = 'delivered' AND d.endpoint_id = c.endpoint_id)
ORDER BY c.endpoint_id
""")

# A worker that was started on the same machine after another fell silent takes its place. Of
# several silent ones, the one that fell silent last is replaced first.
_GONE = text("""
WITH everyone AS (
    SELECT id, name, regexp_replace(name, ':[^:]*$', '') AS host, started_at, renewed_at,
        stopped_at IS NULL
            AND renewed_at < CAST(:now AS timestamptz) - make_interval(secs => :gone) AS silent
    FROM signalpost.workers WHERE renewed_at > CAST(:now AS timestamptz) - interval '1 day'
), silent AS (
    SELECT *, row_number() OVER (PARTITION BY host ORDER BY renewed_at DESC, id) AS place
    FROM everyone WHERE silent
)
SELECT id, name, CAST(extract(epoch FROM CAST(:now AS timestamptz) - renewed_at) AS float8) AS age,
    (SELECT count(*) FROM everyone WHERE NOT silent
        AND renewed_at >= CAST(:now AS timestamptz) - make_interval(secs => :gone)) AS alive
FROM silent
WHERE place > (
    SELECT count(*) FROM everyone later
    WHERE later.host = silent.host AND later.started_at > silent.renewed_at)
ORDER BY name, id
""")

# What a worker that is gone has claimed is nobody's either, until another takes it back.
_OVERDUE = text("""
SELECT count(*) AS number,
    CAST(extract(epoch FROM CAST(:now AS timestamptz) - min(due)) AS float8) AS oldest
FROM (
    (SELECT next_attempt_at AS due FROM signalpost.deliveries
     WHERE status = 'pending'
       AND next_attempt_at <= CAST(:now AS timestamptz) - make_interval(secs => :overdue)
     ORDER BY next_attempt_at LIMIT :most)
    UNION ALL
    (SELECT d.claimed_at FROM signalpost.deliveries d
     WHERE d.status = 'sending'
       AND d.claimed_at <= CAST(:now AS timestamptz) - make_interval(secs => :overdue)
       AND NOT EXISTS (
        SELECT FROM signalpost.workers w
        WHERE w.id = d.worker_id
          AND w.renewed_at > CAST(:now AS timestamptz) - make_interval(secs => :gone))
     LIMIT :most)
) nobodys
""")

_SUCCEEDED = text("""
SELECT e.id FROM signalpost.endpoints e
JOIN unnest(CAST(:ids AS bigint[]), CAST(:seen AS timestamptz[])) AS known (id, seen_at)
    ON known.id = e.id
WHERE e.removed_at IS NOT NULL OR EXISTS (
    SELECT FROM signalpost.deliveries d
    WHERE d.finished_at > greatest(
            known.seen_at, CAST(:now AS timestamptz) - make_interval(secs => :back))
      AND d.finished_at IS NOT NULL AND d.status = 'delivered' AND d.endpoint_id = e.id)
""")

_WORKERS = text(
    "SELECT id::text FROM signalpost.workers WHERE id::text = ANY(CAST(:ids AS text[]))"
)

_UNSENT = text("""
SELECT CAST(extract(epoch FROM CAST(:now AS timestamptz) - min(created_at)) AS float8)
FROM signalpost.alerts WHERE sent_at IS NULL
""")


def endpoints_in_trouble(connection: Connection, *, now: datetime) -> list[Trouble]:
    """Endpoints whose attempts fail, :data:`FAILURES` at least, with no success lately."""
    values = {
        "now": now,
        "most": MOST,
        "dead_for": DEAD_FOR_SECONDS,
        "failures": FAILURES,
        "quiet": QUIET_SECONDS,
    }
    return [
        Trouble(
            "endpoint_trouble",
            str(row.endpoint_id),
            row.endpoint_id,
            {
                "failed attempts": str(row.failures),
                "deliveries": str(row.deliveries),
                "last failure": str(row.last_failure or "none recorded"),
            },
        )
        for row in connection.execute(_FAILING, values)
    ]


def workers_gone(connection: Connection, *, now: datetime) -> list[Trouble]:
    """Workers that fell silent without having been stopped, and that no later one replaces."""
    rows = connection.execute(_GONE, {"now": now, "gone": GONE_SECONDS})
    return [
        Trouble(
            "worker_gone",
            str(row.id),
            details={"silent for": f"{row.age:.0f} s", "workers alive": str(row.alive)},
            name=row.name,
        )
        for row in rows
    ]


def overdue(connection: Connection, *, now: datetime) -> Overdue | None:
    """What has been due for :data:`OVERDUE_SECONDS` and nobody takes; None where nothing has."""
    values = {"now": now, "overdue": OVERDUE_SECONDS, "gone": GONE_SECONDS, "most": MOST}
    row = connection.execute(_OVERDUE, values).one()
    return Overdue(row.number, row.oldest) if row.number else None


def evidence_of_end(connection: Connection, known: Sequence[Known], *, now: datetime) -> set[Key]:
    """Of known troubles, those that are over if they are no longer found.

    An endpoint's is over once a delivery succeeded after it was last found, or the endpoint was
    removed; a worker's while its row is still there; all others as soon as they are not found.
    """
    endpoints = [each for each in known if each.trouble.endpoint_id is not None]
    values = {
        "ids": [each.trouble.endpoint_id for each in endpoints],
        "seen": [each.seen_at for each in endpoints],
        "now": now,
        "back": SUCCESS_SECONDS,
    }
    well = set(connection.execute(_SUCCEEDED, values).scalars()) if endpoints else set()
    workers = [each.trouble.subject for each in known if each.trouble.kind == "worker_gone"]
    there = set(connection.execute(_WORKERS, {"ids": workers}).scalars()) if workers else set()
    return {
        each.trouble.key
        for each in known
        if (each.trouble.endpoint_id is None or each.trouble.endpoint_id in well)
        and (each.trouble.kind != "worker_gone" or each.trouble.subject in there)
    }


def oldest_unsent_seconds(connection: Connection, *, now: datetime) -> float:
    """For how long the oldest unsent alert has waited; 0 where all are sent."""
    return float(connection.execute(_UNSENT, {"now": now}).scalar() or 0.0)
