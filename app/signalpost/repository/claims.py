"""Claims: a worker's exclusive right to make one attempt, taken in one committed statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.lifecycle import MIN_LIFE_SECONDS


@dataclass(frozen=True, slots=True)
class Claim:
    """All that one attempt needs, so that nothing is read between the claim and the request."""

    delivery_id: UUID
    claim_id: UUID
    worker_id: UUID
    enqueued_at: datetime
    claimed_at: datetime
    attempt: int
    spent: int
    maybe_received: bool
    replays: int
    expires_at: datetime | None
    signal_id: UUID
    producer_id: str
    instrument: str
    body: bytes
    endpoint_id: int
    endpoint: str
    url: str
    secret_ciphertext: bytes
    secret_version: int
    previous_secret_ciphertext: bytes | None
    """The version before, while the secret is being replaced."""
    timeout_seconds: float | None
    max_retries: int | None
    retry_delay_seconds: float | None
    on_unknown: str


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A delivery that was asked for and not claimed, and how it stood."""

    delivery_id: UUID
    status: str | None
    """None: there is no such delivery."""
    due_in_seconds: float | None
    """For a pending one: until it is due; 0 or less means that somebody else is at it."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A delivery that the claim found past its expiry and ended."""

    delivery_id: UUID
    alert_id: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim statement brought."""

    claims: list[Claim]
    expired: list[Expired]
    unclaimed: list[Unclaimed]


_NOW = "COALESCE(CAST(:now AS timestamptz), statement_timestamp())"

_CLAIM_COLUMNS = """
    d.id AS delivery_id, d.claim_id, d.worker_id, d.created_at AS enqueued_at, d.claimed_at,
    d.attempts AS attempt, d.spent,
    d.maybe_received, d.replays, d.expires_at,
    s.id AS signal_id, s.producer_id, s.instrument, s.body,
    e.id AS endpoint_id, e.name AS endpoint, e.url, e.secret_ciphertext, e.secret_version,
    CASE WHEN e.previous_secret_until > statement_timestamp()
        THEN e.previous_secret_ciphertext END AS previous_secret_ciphertext,
    e.timeout_seconds, e.max_retries, e.retry_delay_seconds, e.on_unknown"""

# Rows past their expiry are taken and ended, not filtered out: filtering would scan them again and
# again while they stand at the head of the queue.
_TAKE = f"""
over AS (
    UPDATE signalpost.deliveries d
    SET status = 'expired', reason = 'expired', next_attempt_at = NULL, finished_at = {_NOW}
    FROM due WHERE d.id = due.id AND due.life_over
    RETURNING d.id, d.endpoint_id
), told AS (
    INSERT INTO signalpost.alerts (kind, delivery_id, endpoint_id)
    SELECT 'expired', id, endpoint_id FROM over
    RETURNING id AS alert_id, delivery_id
), claimed AS (
    UPDATE signalpost.deliveries d
    SET status = 'sending', claim_id = gen_random_uuid(), worker_id = :worker_id,
        claimed_at = {_NOW}, attempts = d.attempts + 1, next_attempt_at = NULL
    FROM due WHERE d.id = due.id AND NOT due.life_over
    RETURNING d.*
)"""

_LIFE_OVER = f"""
    COALESCE(d.expires_at <= {_NOW} + make_interval(secs => {MIN_LIFE_SECONDS}), false)
        AS life_over"""

_CLAIM_DUE = text(f"""
WITH due AS MATERIALIZED (
    SELECT d.id, {_LIFE_OVER}
    FROM signalpost.deliveries d
    WHERE d.status = 'pending'
      AND d.next_attempt_at <= {_NOW} - make_interval(secs => :overdue_seconds)
    ORDER BY d.next_attempt_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
), {_TAKE}
SELECT told.alert_id, due.id AS due_id, {_CLAIM_COLUMNS}
FROM due
LEFT JOIN told ON told.delivery_id = due.id
LEFT JOIN claimed d ON d.id = due.id
LEFT JOIN signalpost.signals s ON s.id = d.signal_id
LEFT JOIN signalpost.endpoints e ON e.id = d.endpoint_id
""")

_CLAIM_BY_ID = text(f"""
WITH asked AS (
    SELECT DISTINCT unnest(CAST(:ids AS uuid[])) AS id
), due AS MATERIALIZED (
    SELECT d.id, {_LIFE_OVER}
    FROM signalpost.deliveries d
    WHERE d.id = ANY(CAST(:ids AS uuid[])) AND d.status = 'pending' AND d.next_attempt_at <= {_NOW}
    FOR UPDATE SKIP LOCKED
), {_TAKE}
SELECT told.alert_id, asked.id AS due_id, stood.status AS stood_status,
    EXTRACT(EPOCH FROM stood.next_attempt_at - {_NOW}) AS due_in_seconds, {_CLAIM_COLUMNS}
FROM asked
LEFT JOIN signalpost.deliveries stood ON stood.id = asked.id
LEFT JOIN told ON told.delivery_id = asked.id
LEFT JOIN claimed d ON d.id = asked.id
LEFT JOIN signalpost.signals s ON s.id = d.signal_id
LEFT JOIN signalpost.endpoints e ON e.id = d.endpoint_id
""")

_EXPIRE = text(f"""
WITH due AS MATERIALIZED (
    SELECT d.id
    FROM signalpost.deliveries d
    WHERE d.status = 'pending' AND d.expires_at <= {_NOW}
    ORDER BY d.expires_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
), over AS (
    UPDATE signalpost.deliveries d
    SET status = 'expired', reason = 'expired', next_attempt_at = NULL, finished_at = {_NOW}
    FROM due WHERE d.id = due.id
    RETURNING d.id, d.endpoint_id
)
INSERT INTO signalpost.alerts (kind, delivery_id, endpoint_id)
SELECT 'expired', id, endpoint_id FROM over
RETURNING delivery_id, id AS alert_id
""")

_HELD_BY = text(f"""
SELECT {_CLAIM_COLUMNS}
FROM signalpost.deliveries d
JOIN signalpost.signals s ON s.id = d.signal_id
JOIN signalpost.endpoints e ON e.id = d.endpoint_id
WHERE d.status = 'sending' AND d.worker_id = ANY(CAST(:worker_ids AS uuid[]))
LIMIT :limit
""")


def claim_due(
    connection: Connection,
    *,
    worker_id: UUID,
    limit: int,
    overdue_seconds: float = 0.0,
    now: datetime | None = None,
) -> Claimed:
    """Claim up to ``limit`` due deliveries, oldest due first; end those past their expiry.

    Args:
        connection: in a transaction that the caller commits at once.
        worker_id: who claims.
        limit: rows at most.
        overdue_seconds: only rows that have been due for at least this long (the rescue's).
        now: database time instead of the statement's own.
    """
    rows = connection.execute(
        _CLAIM_DUE,
        {"worker_id": worker_id, "limit": limit, "overdue_seconds": overdue_seconds, "now": now},
    ).all()
    return _claimed(rows)


def claim_by_id(
    connection: Connection,
    delivery_ids: Sequence[UUID],
    *,
    worker_id: UUID,
    now: datetime | None = None,
) -> Claimed:
    """Claim the named deliveries where they are due; say of the others how they stand."""
    rows = connection.execute(
        _CLAIM_BY_ID, {"ids": list(delivery_ids), "worker_id": worker_id, "now": now}
    ).all()
    claimed = _claimed(rows)
    for row in rows:
        if row.delivery_id is None and row.alert_id is None:
            due_in = None if row.due_in_seconds is None else float(row.due_in_seconds)
            claimed.unclaimed.append(Unclaimed(row.due_id, row.stood_status, due_in))
    return claimed


def expire_pending(
    connection: Connection, *, limit: int, now: datetime | None = None
) -> list[Expired]:
    """End pending deliveries past their expiry, whatever holds them, each with its alert."""
    rows = connection.execute(_EXPIRE, {"limit": limit, "now": now})
    return [Expired(row.delivery_id, row.alert_id) for row in rows]


def claims_of(connection: Connection, worker_ids: Sequence[UUID], *, limit: int) -> list[Claim]:
    """List the claims that workers hold, as the database sees it."""
    rows = connection.execute(_HELD_BY, {"worker_ids": list(worker_ids), "limit": limit})
    return [_claim(row) for row in rows]


def _claimed(rows: Sequence[Row[Any]]) -> Claimed:
    claims = [_claim(row) for row in rows if row.delivery_id is not None]
    expired = [Expired(row.due_id, row.alert_id) for row in rows if row.alert_id is not None]
    return Claimed(claims, expired, [])


def _claim(row: Row[Any]) -> Claim:
    fields = row._asdict()
    return Claim(**{name: fields[name] for name in Claim.__dataclass_fields__})
