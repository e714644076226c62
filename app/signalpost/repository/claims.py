"""Claims: a worker's exclusive right to make one attempt, taken in one committed transaction.

First a look at which endpoints have something due and room for it, then the rows themselves
(looking.py, taking.py); the quotas between the two are pure arithmetic (core/shares.py). A claim by
id takes the plain way in one statement where nothing governs the delivery, which is the usual case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.shares import Quota, Room, allot
from signalpost.repository.looking import GOVERNED, NOW, READY, Look, look_around, look_at
from signalpost.repository.placing import Key, promote
from signalpost.repository.taking import CLAIM_COLUMNS, LIFE_OVER, paced_wait, take


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
    priority: int = 0
    ordered: bool = False
    ordering_key: str = ""
    sequence: int | None = None
    on_dead: str = "skip"
    headers: Mapping[str, str] | None = None
    troubled: bool = False
    """Its endpoint has failed lately, so that a success is news to its breaker."""
    governed: bool = False
    """Its end makes room for another one."""

    @property
    def key(self) -> Key | None:
        """The ordering key that it goes before others of; None where order does not matter."""
        return (self.endpoint_id, self.ordering_key) if self.ordered else None


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A delivery that was asked for and not claimed, and how it stood."""

    delivery_id: UUID
    status: str | None
    """None: there is no such delivery."""
    due_in_seconds: float | None
    """For a pending one: until it is due; 0 or less means that somebody else is at it, or that
    something holds it."""
    held: str | None = None
    """What holds it: `order`, `pause`, `breaker`, `limit` or `share` (of this process)."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A delivery that the claim found past its expiry and ended."""

    delivery_id: UUID
    alert_id: int


@dataclass(slots=True)
class Claimed:
    """What a claim statement brought."""

    claims: list[Claim] = field(default_factory=list)
    expired: list[Expired] = field(default_factory=list)
    unclaimed: list[Unclaimed] = field(default_factory=list)
    unplaced: bool = False
    """There are ordered deliveries without a place: place them, then claim again."""
    parked: int = 0
    """So many were put aside because their producer or instrument is paused."""
    more: bool = False
    """There may be more that is due, but for a quota or a limit: look again when one ends."""
    again_seconds: float | None = None
    """There may be more that this moment's limit or somebody else's lock kept back: look again
    after so long."""


MISSED_SECONDS = 0.01
"""Whoever held an endpoint's row, or a key's, is done with its claim after about so long."""
BEHIND_SECONDS = 0.1
"""An exit that waits for an entry of its own key to end is looked at again after so long."""

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
), due AS MATERIALIZED (
    SELECT d.id, {LIFE_OVER} AS life_over
    FROM signalpost.deliveries d
    JOIN signalpost.endpoints e ON e.id = d.endpoint_id
    WHERE d.id = ANY(CAST(:ids AS uuid[])) AND {READY} AND d.next_attempt_at <= {NOW}
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

_HELD_BY = text(f"""
SELECT {CLAIM_COLUMNS}
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
    room: Room | None = None,
    high_only: bool = False,
    now: datetime | None = None,
) -> Claimed:
    """Claim up to ``limit`` due deliveries, fairly between endpoints; end those past their expiry.

    Args:
        connection: in a transaction that the caller commits at once.
        worker_id: who claims.
        limit: rows at most.
        overdue_seconds: only rows that have been due for at least this long (the rescue's).
        room: the places of this process, of which no endpoint gets all; None: no such bound.
        high_only: the exit lane alone.
        now: database time instead of the statement's own.
    """
    look = look_around(
        connection,
        flights={} if room is None else room.flights,
        overdue_seconds=overdue_seconds,
        high_only=high_only,
        now=now,
    )
    claimed = Claimed(unplaced=look.unplaced)
    quotas = allot(look.waiting, limit=limit, room=room)
    claimed.more = len(quotas) < len(look.waiting)
    again = MISSED_SECONDS if look.missed else None
    if quotas:
        rows = take(
            connection,
            quotas,
            worker_id=worker_id,
            limit=limit,
            overdue_seconds=overdue_seconds,
            look=look,
            ids=None,
            now=now,
        )
        _sort_out(connection, rows, claimed)
        claimed.more = claimed.more or _is_short(quotas, rows)
        again = _soonest(again, _again(connection, quotas, look, rows, now))
    claimed.again_seconds = again
    return claimed


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
    claimed = _claimed(rows)
    left = {row.due_id: row for row in rows if row[-_FIELDS] is None and row.alert_id is None}
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
        _sort_out(connection, rows, claimed)
        if len(rows) < len(ids):
            again = _soonest(again, _again(connection, quotas, look, rows, now))
    claimed.again_seconds = again
    return look


def claims_of(connection: Connection, worker_ids: Sequence[UUID], *, limit: int) -> list[Claim]:
    """List the claims that workers hold, as the database sees it."""
    rows = connection.execute(_HELD_BY, {"worker_ids": list(worker_ids), "limit": limit})
    return [_claim(row) for row in rows]


def _sort_out(connection: Connection, rows: Sequence[Row[Any]], claimed: Claimed) -> None:
    """Add what a take brought; the successors of those that it ended may go next."""
    found = _claimed(rows)
    claimed.claims.extend(found.claims)
    claimed.expired.extend(found.expired)
    claimed.parked += sum(1 for row in rows if row.paused and row.mine_id and not row.alert_id)
    ended = [row for row in rows if row.alert_id and row.due_ordered]
    keys = {(row.due_endpoint, row.due_key) for row in ended}
    promote(connection, keys, unsent=[row.due_id for row in ended])


def _is_short(quotas: Sequence[Quota], rows: Sequence[Row[Any]]) -> bool:
    """Whether a quota may have kept something back; of one that is governed nobody knows."""
    taken = Counter(row.due_endpoint for row in rows)
    return any(
        quota.governed
        or taken[quota.endpoint_id] >= min(q for q in (quota.high, quota.normal) if q)
        for quota in quotas
    )


def _again(
    connection: Connection,
    quotas: Sequence[Quota],
    look: Look,
    rows: Sequence[Row[Any]],
    now: datetime | None,
) -> float | None:
    """After how long another look may find what this one could not have; None: not by time."""
    again = None
    if any(row.mine_id is None for row in rows):
        again = MISSED_SECONDS
    governed = [quota.endpoint_id for quota in quotas if quota.governed]
    if governed:
        again = _soonest(again, paced_wait(connection, governed, now=now))
    taken = {row.due_endpoint for row in rows}
    if any(one.high and one.endpoint_id not in taken for one in look.waiting):
        again = _soonest(again, BEHIND_SECONDS)
    return again


def _soonest(one: float | None, other: float | None) -> float | None:
    found = [seconds for seconds in (one, other) if seconds is not None]
    return min(found, default=None)


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


def _claimed(rows: Sequence[Row[Any]]) -> Claimed:
    claims = [_claim(row) for row in rows if row[-_FIELDS] is not None]
    expired = [Expired(row.due_id, row.alert_id) for row in rows if row.alert_id is not None]
    return Claimed(claims, expired, [])


_FIELDS = len(fields(Claim))


def _claim(row: Row[Any]) -> Claim:
    return Claim(*row[-_FIELDS:])
