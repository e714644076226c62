"""Supersede: a newer signal takes the place of older deliveries that are not delivered yet.

In the transaction that enqueues the newer one. An older one that is under way cannot be called
back: it is marked to end without another try, and the newer one is held until it has ended.
Whoever records that end lets the newer one go, in the same transaction (:func:`let_go`). Both lock
what is under way first, so one of them always sees what the other did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.repository.keys import Key, lock_keys
from signalpost.repository.looking import NOW
from signalpost.repository.placing import promote

__all__ = ["key_lock", "let_go", "let_stuck_go", "supersede"]


def key_lock(producer_id: str, supersede_key: str) -> str:
    """The number of a supersede key's advisory lock, as SQL; both given as SQL too.

    Whoever stores a signal with that key takes it, and so does a replay, before any row is locked:
    of two at once, one sees the other.
    """
    return f"hashtextextended(concat_ws(' ', 'signalpost', {producer_id}, {supersede_key}), 0)"


_OLDER = """
FROM signalpost.deliveries n
JOIN signalpost.deliveries d ON d.endpoint_id = n.endpoint_id
    AND d.supersede_key = n.supersede_key AND d.position < n.position
    AND d.status IN ('pending', 'sending')
JOIN signalpost.signals s ON s.id = d.signal_id AND s.producer_id = :producer_id
WHERE n.id = ANY(CAST(:newer AS uuid[]))"""

_KEYS = text(f"SELECT DISTINCT d.endpoint_id, d.ordering_key {_OLDER} AND d.ordered")

_LOCK = text(f"SELECT d.id {_OLDER} ORDER BY d.status = 'sending' DESC, d.id FOR UPDATE OF d")

_END = text(f"""
UPDATE signalpost.deliveries
SET status = CASE status WHEN 'pending' THEN 'superseded' ELSE status END,
    reason = CASE status WHEN 'pending' THEN NULL ELSE reason END,
    next_attempt_at = NULL,
    finished_at = CASE status WHEN 'pending' THEN {NOW} END,
    wanted_end = CASE status WHEN 'sending' THEN COALESCE(wanted_end, 'superseded') END
WHERE id = ANY(CAST(:ids AS uuid[])) AND status IN ('pending', 'sending')
RETURNING endpoint_id, status
""")

_HOLD = text("""
UPDATE signalpost.deliveries SET held = 'superseding'
WHERE id = ANY(CAST(:newer AS uuid[])) AND endpoint_id = ANY(CAST(:endpoint_ids AS bigint[]))
""")

_HELD = text("""
SELECT n.id
FROM unnest(CAST(:endpoint_ids AS bigint[]), CAST(:keys AS text[])) AS k (endpoint_id, key)
JOIN signalpost.deliveries n ON n.endpoint_id = k.endpoint_id AND n.supersede_key = k.key
    AND n.status IN ('pending', 'sending')
WHERE n.status = 'pending' AND n.held = 'superseding'
ORDER BY n.id
FOR UPDATE OF n
""")

# What another producer calls by the same key is another thing.
_STILL_UNDER_WAY = """
    SELECT FROM signalpost.deliveries d
    JOIN signalpost.signals older ON older.id = d.signal_id
    WHERE d.endpoint_id = n.endpoint_id AND d.supersede_key = n.supersede_key
      AND d.status = 'sending' AND d.position < n.position
      AND older.producer_id = (
        SELECT newer.producer_id FROM signalpost.signals newer WHERE newer.id = n.signal_id)"""

_ALL_HELD = text(f"""
SELECT n.id FROM signalpost.deliveries n
WHERE n.status = 'pending' AND n.held = 'superseding'
  AND NOT EXISTS ({_STILL_UNDER_WAY})
LIMIT :limit
FOR UPDATE OF n SKIP LOCKED
""")

# An ordered one goes through its key from here on.
_RELEASE = text(f"""
UPDATE signalpost.deliveries n SET held = CASE WHEN n.ordered THEN 'new' END
WHERE n.id = ANY(CAST(:ids AS uuid[])) AND n.status = 'pending' AND n.held = 'superseding'
  AND NOT EXISTS ({_STILL_UNDER_WAY})
RETURNING n.id
""")


def supersede(
    connection: Connection,
    producer_id: str,
    newer: Sequence[UUID],
    *,
    now: datetime | None = None,
) -> None:
    """End what the newer deliveries, just stored, take the place of, in the same transaction."""
    values = {"producer_id": producer_id, "newer": list(newer)}
    keys: set[Key] = {
        (row.endpoint_id, row.ordering_key) for row in connection.execute(_KEYS, values)
    }
    lock_keys(connection, keys)
    older = list(connection.execute(_LOCK, values).scalars())
    if not older:
        return
    ended = connection.execute(_END, {"ids": older, "now": now}).all()
    under_way = sorted({row.endpoint_id for row in ended if row.status == "sending"})
    if under_way:
        connection.execute(_HOLD, {"newer": list(newer), "endpoint_ids": under_way})
    promote(connection, keys, unsent=older)


def let_go(connection: Connection, ended: Iterable[tuple[int, str]]) -> list[UUID]:
    """Let those go that waited for the end of these, given by endpoint and supersede key."""
    pairs = sorted(set(ended))
    if not pairs:
        return []
    held = connection.execute(
        _HELD,
        {"endpoint_ids": [one for one, _ in pairs], "keys": [key for _, key in pairs]},
    )
    return _release(connection, list(held.scalars()))


def let_stuck_go(connection: Connection, *, limit: int) -> list[UUID]:
    """The same for whatever is held so, in case that nobody let it go."""
    return _release(connection, list(connection.execute(_ALL_HELD, {"limit": limit}).scalars()))


def _release(connection: Connection, ids: list[UUID]) -> list[UUID]:
    if not ids:
        return []
    # A statement of its own: it sees what others committed before these rows were locked.
    return list(connection.execute(_RELEASE, {"ids": ids}).scalars())
