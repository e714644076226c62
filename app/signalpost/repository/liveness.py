"""Workers: who is alive, whose claims are lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

OWN_SILENCE_SECONDS = 4.0
"""Who has not renewed for this long, twice the time between two renewals, judges nobody."""

_RENEW = text("""
INSERT INTO signalpost.workers (id, name) VALUES (:id, :name)
ON CONFLICT (id) DO UPDATE SET renewed_at = clock_timestamp()
RETURNING clock_timestamp()
""")

_STOP = text("""
UPDATE signalpost.workers SET stopped_at = clock_timestamp() WHERE id = :id
""")

# Locking the silent worker's row makes a renewal that arrives meanwhile wait until its claims are
# taken back, so that it never renews in between. A worker that stopped in good order but still
# holds claims (its last records failed) is silent at once. Who asks must not look silent itself: a
# server that stood still, or a new one with another clock, makes everybody look so.
_SILENT = text("""
SELECT id FROM signalpost.workers
WHERE (renewed_at < COALESCE(CAST(:now AS timestamptz), statement_timestamp())
                    - make_interval(secs => :silence_seconds)
       OR stopped_at IS NOT NULL)
  AND id <> :self
  AND EXISTS (
    SELECT FROM signalpost.workers me
    WHERE me.id = :self
      AND me.renewed_at >= COALESCE(CAST(:now AS timestamptz), statement_timestamp())
                           - make_interval(secs => :own_silence_seconds))
  AND EXISTS (
    SELECT FROM signalpost.deliveries d WHERE d.status = 'sending' AND d.worker_id = workers.id)
FOR UPDATE SKIP LOCKED
""")

_ORPHANS = text("""
SELECT DISTINCT worker_id FROM signalpost.deliveries d
WHERE d.status = 'sending'
  AND NOT EXISTS (SELECT FROM signalpost.workers w WHERE w.id = d.worker_id)
""")

_FORGET = text("""
DELETE FROM signalpost.workers w
WHERE w.renewed_at < statement_timestamp() - make_interval(secs => :seconds)
  AND NOT EXISTS (
    SELECT FROM signalpost.deliveries d WHERE d.status = 'sending' AND d.worker_id = w.id)
""")


def renew(connection: Connection, *, worker_id: UUID, name: str) -> datetime:
    """Say that a worker is alive (the first time: register it); return the database's time."""
    moment: datetime = connection.execute(_RENEW, {"id": worker_id, "name": name}).scalar_one()
    return moment


def stop(connection: Connection, worker_id: UUID) -> None:
    """Say that a worker has ended in good order."""
    connection.execute(_STOP, {"id": worker_id})


def silent_workers(
    connection: Connection,
    *,
    own_id: UUID,
    silence_seconds: float,
    now: datetime | None = None,
) -> Sequence[UUID]:
    """Lock and list the workers that hold claims and have not renewed for ``silence_seconds``."""
    silent = connection.execute(
        _SILENT,
        {
            "self": own_id,
            "silence_seconds": silence_seconds,
            "own_silence_seconds": OWN_SILENCE_SECONDS,
            "now": now,
        },
    )
    found = list(silent.scalars())
    found.extend(connection.execute(_ORPHANS).scalars())
    return found


def forget_workers(connection: Connection, *, silence_seconds: float) -> int:
    """Delete the rows of workers long gone; return how many."""
    return connection.execute(_FORGET, {"seconds": silence_seconds}).rowcount
