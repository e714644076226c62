"""Claims: a worker's exclusive right to make one attempt, taken in one committed transaction.

First a look at which endpoints have something due and room for it, then the rows themselves
(looking.py, taking.py); the quotas between the two are pure arithmetic (core/shares.py). A claim of
named deliveries goes its own way (naming.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.shares import Kept, Quota, Room, Waiting, allot
from signalpost.repository.claimed import Claim, Claimed, claim_of, claimed_of
from signalpost.repository.keys import Key
from signalpost.repository.looking import Look, look_around
from signalpost.repository.pacing import paced_wait
from signalpost.repository.placing import promote
from signalpost.repository.taking import CLAIM_COLUMNS, take

MISSED_SECONDS = 0.01
"""Whoever held an endpoint's row is done with its claim after about so long."""
TAKES = 3
"""Whoever holds so many keys that they fill a quota does not keep the endpoint's others from it;
what lies behind three quotas of held keys waits for a later look."""
BEHIND_SECONDS = 0.1
"""An exit that waits for an entry of its own key to end is looked at again after so long."""

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
    rows = _take_all(
        connection,
        quotas,
        worker_id=worker_id,
        limit=limit,
        overdue_seconds=overdue_seconds,
        look=look,
        now=now,
    )
    if quotas:
        sort_out(connection, rows, claimed)
        claimed.more = claimed.more or _is_short(quotas, rows)
        again = soonest(again, look_again(connection, quotas, look, rows, now))
    claimed.kept = _kept(look.waiting, quotas, rows)
    claimed.seen_all = not (
        len(rows) >= limit
        or look.crowd
        or any(quota.governed for quota in quotas)
        # It may stand behind an entry of its own key, of whose end nobody tells.
        or any(one.high for one in look.waiting)
    )
    claimed.again_seconds = again
    return claimed


def _take_all(
    connection: Connection,
    quotas: Sequence[Quota],
    *,
    worker_id: UUID,
    limit: int,
    overdue_seconds: float,
    look: Look,
    now: datetime | None,
) -> list[Row[Any]]:
    """Take within the quotas; again where held keys have kept an endpoint's others from it."""
    rows: list[Row[Any]] = []
    held: set[Key] = set()
    asked = quotas
    for _ in range(TAKES):
        if not asked:
            break
        found = take(
            connection,
            asked,
            worker_id=worker_id,
            limit=limit - len(_taken(rows)),
            overdue_seconds=overdue_seconds,
            look=look,
            ids=None,
            now=now,
            but=held,
        )
        rows += found
        passed = {(row.due_endpoint, row.due_key) for row in found if row.mine_id is None}
        held |= passed
        asked = _unused(quotas, rows, {endpoint_id for endpoint_id, _ in passed})
    return rows


def _taken(rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Without those whose ordering key somebody holds."""
    return [row for row in rows if row.mine_id is not None]


def _unused(
    quotas: Sequence[Quota], rows: Sequence[Row[Any]], endpoint_ids: Collection[int]
) -> list[Quota]:
    """What is left of these endpoints' quotas: rows of held keys have kept others from it."""
    taken = Counter((row.due_endpoint, row.due_priority) for row in _taken(rows))
    left = [
        replace(
            quota,
            high=max(0, quota.high - taken[quota.endpoint_id, 1]),
            normal=max(0, quota.normal - taken[quota.endpoint_id, 0]),
        )
        for quota in quotas
        if quota.endpoint_id in endpoint_ids
    ]
    return [quota for quota in left if quota.high or quota.normal]


def claims_of(connection: Connection, worker_ids: Sequence[UUID], *, limit: int) -> list[Claim]:
    """List the claims that workers hold, as the database sees it."""
    rows = connection.execute(_HELD_BY, {"worker_ids": list(worker_ids), "limit": limit})
    return [claim_of(row) for row in rows]


def sort_out(connection: Connection, rows: Sequence[Row[Any]], claimed: Claimed) -> None:
    """Add what a take brought; the successors of those that it ended may go next."""
    found = claimed_of(rows)
    claimed.claims.extend(found.claims)
    claimed.expired.extend(found.expired)
    claimed.key_held = any(row.mine_id is None for row in rows)
    claimed.parked += sum(1 for row in rows if row.paused and row.mine_id and not row.alert_id)
    ended = [row for row in rows if row.alert_id and row.due_ordered]
    keys = {(row.due_endpoint, row.due_key) for row in ended}
    promote(connection, keys, unsent=[row.due_id for row in ended])


def _is_short(quotas: Sequence[Quota], rows: Sequence[Row[Any]]) -> bool:
    """Whether a quota may have kept something back; of one that is governed nobody knows."""
    taken = Counter(row.due_endpoint for row in _taken(rows))
    return any(
        quota.governed
        or taken[quota.endpoint_id] >= min(q for q in (quota.high, quota.normal) if q)
        for quota in quotas
    )


def _kept(waiting: Sequence[Waiting], quotas: Sequence[Quota], rows: Sequence[Row[Any]]) -> Kept:
    """Whose quota was used up, or nothing from the start.

    Where nothing was taken these are only those that had no room at all, so whoever looks again
    once they have some never looks twice for the same room. What somebody holds by its ordering key
    was not kept back for want of room; it is looked for by time.
    """
    high = {quota.endpoint_id: quota.high for quota in quotas}
    normal = {quota.endpoint_id: quota.normal for quota in quotas}
    taken = Counter(row.due_endpoint for row in _taken(rows))
    ids = [(one.endpoint_id, taken[one.endpoint_id], one) for one in waiting]
    return Kept(
        high=frozenset(one for one, n, due in ids if due.high and n >= high.get(one, 0)),
        normal=frozenset(one for one, n, due in ids if due.normal and n >= normal.get(one, 0)),
        governed=frozenset(quota.endpoint_id for quota in quotas if quota.governed),
    )


def look_again(
    connection: Connection,
    quotas: Sequence[Quota],
    look: Look,
    rows: Sequence[Row[Any]],
    now: datetime | None,
) -> float | None:
    """After how long another look may find what this one could not have; None: not by time."""
    again = None
    governed = [quota.endpoint_id for quota in quotas if quota.governed]
    if governed:
        again = paced_wait(connection, governed, now=now)
    taken = {row.due_endpoint for row in rows}
    if any(one.high and one.endpoint_id not in taken for one in look.waiting):
        again = soonest(again, BEHIND_SECONDS)
    return again


def soonest(one: float | None, other: float | None) -> float | None:
    """The smaller of two waits; None is none."""
    found = [seconds for seconds in (one, other) if seconds is not None]
    return min(found, default=None)
