"""Claims of named deliveries: in one statement where nothing governs them, the usual case."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.shares import Quota
from signalpost.repository.claimed import CLAIM_FIELDS, Claimed, Unclaimed, claimed_of
from signalpost.repository.claims import MISSED_SECONDS, look_again, soonest, sort_out
from signalpost.repository.looking import GOVERNED, HURRY, NOW, READY, Look, look_at
from signalpost.repository.taking import CLAIM_COLUMNS, LIFE_OVER, take

_TAKE_PLAIN = f"""
over AS (
    UPDATE signalpost.deliveries d
    SET status = 'expired', reason = 'expired', next_attempt_at = NULL, finished_at = {NOW}
    FROM due WHERE d.id = due.id AND due.life_over
    RETURNING d.id, d.endpoint_id
), told AS (
    INSERT INTO signalpost.alerts (kind, delivery_id, endpoint_id)
    SELECT 'expired', id, endpoint_id FROM over
    RETURNING id AS alert_id, delivery_id
), claimed AS (
    UPDATE signalpost.deliveries d
    SET status = 'sending', claim_id = gen_random_uuid(), worker_id = :worker_id,
        claimed_at = {NOW}, attempts = d.attempts + 1, next_attempt_at = NULL
    FROM due WHERE d.id = due.id AND NOT due.life_over
    RETURNING d.*
)"""

# Whatever order, limit, breaker, pause or lane governs is left to the other way.
_CLAIM_PLAIN = text(f"""
WITH asked AS (
    SELECT DISTINCT unnest(CAST(:ids AS uuid[])) AS id
), hurry AS MATERIALIZED (
    SELECT {HURRY} AS set
), due AS MATERIALIZED (
    SELECT d.id, {LIFE_OVER} AS life_over
    FROM hurry CROSS JOIN signalpost.deliveries d
    JOIN signalpost.endpoints e ON e.id = d.endpoint_id
    WHERE hurry.set IS NOT NULL
      AND d.id = ANY(CAST(:ids AS uuid[])) AND {READY} AND d.next_attempt_at <= {NOW}
      AND NOT d.ordered AND d.priority = 0 AND NOT {GOVERNED}
      AND NOT :high_only AND d.endpoint_id <> ALL(CAST(:full AS bigint[]))
      AND NOT EXISTS (SELECT FROM signalpost.pauses)
    FOR UPDATE OF d SKIP LOCKED
), {_TAKE_PLAIN}
SELECT told.alert_id, asked.id AS due_id, stood.status AS stood_status, stood.held, stood.parked,
    EXTRACT(EPOCH FROM stood.next_attempt_at - {NOW}) AS due_in_seconds,
    stood.endpoint_id AS stood_endpoint, {CLAIM_COLUMNS}
FROM asked
LEFT JOIN signalpost.deliveries stood ON stood.id = asked.id
LEFT JOIN told ON told.delivery_id = asked.id
LEFT JOIN claimed d ON d.id = asked.id
LEFT JOIN signalpost.signals s ON s.id = d.signal_id
LEFT JOIN signalpost.endpoints e ON e.id = d.endpoint_id
""")


def claim_by_id(
    connection: Connection,
    delivery_ids: Sequence[UUID],
    *,
    worker_id: UUID,
    full: Sequence[int] = (),
    full_high: Sequence[int] = (),
    high_only: bool = False,
    now: datetime | None = None,
) -> Claimed:
    """Claim the named deliveries where they are due; say of the others how they stand.

    Args:
        connection: in a transaction that the caller commits at once.
        delivery_ids: which ones.
        worker_id: who claims.
        full: endpoints that have all they may have of this process, but for exits.
        full_high: those that may have no more exits either.
        high_only: the exit lane alone, for this process has no other place left.
        now: database time instead of the statement's own.
    """
    values = {
        "ids": list(delivery_ids),
        "worker_id": worker_id,
        "full": list(full),
        "high_only": high_only,
        "now": now,
    }
    rows = connection.execute(_CLAIM_PLAIN, values).all()
    claimed = claimed_of(rows)
    left = {row.due_id: row for row in rows if row[-CLAIM_FIELDS] is None and row.alert_id is None}
    governed = [
        row.due_id
        for row in left.values()
        if row.stood_status == "pending"
        and row.due_in_seconds is not None
        and row.due_in_seconds <= 0
        and not row.parked
        and row.held is None
    ]
    look = None
    if governed:
        look = _claim_governed(
            connection,
            governed,
            claimed,
            worker_id=worker_id,
            full=full,
            full_high=full_high,
            high_only=high_only,
            now=now,
        )
        done = {one.delivery_id for one in claimed.claims}
        done |= {one.delivery_id for one in claimed.expired}
        left = {key: row for key, row in left.items() if key not in done}
    claimed.unplaced = any(row.held == "new" for row in left.values())
    claimed.unclaimed.extend(
        _unclaimed(row, look, full, high_only=high_only) for row in left.values()
    )
    return claimed


def _claim_governed(
    connection: Connection,
    ids: Sequence[UUID],
    claimed: Claimed,
    *,
    worker_id: UUID,
    full: Sequence[int],
    full_high: Sequence[int],
    high_only: bool,
    now: datetime | None,
) -> Look:
    look = look_at(connection, ids, high_only=high_only, now=now)
    quotas = [
        Quota(
            one.endpoint_id,
            high=len(ids) if one.endpoint_id not in full_high else 0,
            normal=len(ids) if one.normal and one.endpoint_id not in full else 0,
            governed=one.governed,
        )
        for one in look.waiting
    ]
    again = MISSED_SECONDS if look.missed else None
    if quotas:
        rows = take(
            connection,
            quotas,
            worker_id=worker_id,
            limit=len(ids),
            overdue_seconds=0.0,
            look=look,
            ids=ids,
            now=now,
        )
        sort_out(connection, rows, claimed)
        if len(rows) < len(ids):
            again = soonest(again, look_again(connection, quotas, look, rows, now))
    claimed.again_seconds = again
    return look


def _unclaimed(
    row: Row[Any], look: Look | None, full: Sequence[int], *, high_only: bool
) -> Unclaimed:
    due_in = None if row.due_in_seconds is None else float(row.due_in_seconds)
    held = None
    if row.stood_status == "pending" and due_in is not None:
        if row.held is not None:
            held = "order"
        elif row.parked:
            held = "pause"
        elif due_in <= 0:
            held = _held_by(row.stood_endpoint, look, full, high_only=high_only)
    return Unclaimed(row.due_id, row.stood_status, due_in, held)


def _held_by(
    endpoint_id: int, look: Look | None, full: Sequence[int], *, high_only: bool
) -> str | None:
    if endpoint_id in full or high_only:
        return "share"
    if look is None:
        return None
    for one in look.waiting:
        if one.endpoint_id == endpoint_id:
            return "limit" if one.governed else ("pause" if not one.normal else None)
    return None if look.missed else "pause"
