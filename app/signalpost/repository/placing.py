"""Order: which delivery of an ordering key may go next, and why no key is ever stuck.

A delivery to an ordered endpoint is enqueued as ``held = 'new'``, without any lock, so that no
producer waits for another. A key's **head** is the one that may be claimed or is under way
(``held IS NULL``); a unique index admits one. All others are held. The lock on the key's row in
``orderings`` decides who may promote, and is taken before the delivery rows, in key order.

Nothing sticks, because
1. a `new` one stands in a small index that every claim looks at, until somebody has placed it
   under its key's lock: it is the head then, or there is another live one before it;
2. whoever ends an ordered delivery, in whatever way, holds its key's lock and promotes in the same
   transaction (:func:`promote`), in statements later than that of the lock: they see all that
   earlier holders of the lock did. A candidate that vanished meanwhile is replaced by the next;
3. whoever dies before the commit has changed nothing;
4. whatever is held all the same (a row changed by hand, a bug) is found by :func:`find_stuck`,
   which walks all keys that have something live and makes such a one `new` again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

__all__ = [
    "BUT",
    "Key",
    "Placed",
    "Step",
    "columns",
    "find_stuck",
    "lock_keys",
    "lock_keys_of",
    "place_new",
    "promote",
    "release_blocked",
    "take_keys",
    "unblock",
    "unblock_endpoint",
]

Key = tuple[int, str]
"""An endpoint's id and an ordering key."""

_GIVEN = """unnest(CAST(:endpoint_ids AS bigint[]), CAST(:ordering_keys AS text[]))
    AS k (endpoint_id, ordering_key)"""

_KEYS_OF = text("""
SELECT DISTINCT endpoint_id, ordering_key FROM signalpost.deliveries
WHERE id = ANY(CAST(:ids AS uuid[])) AND ordered
""")

_MAKE_KEYS = text(f"""
INSERT INTO signalpost.orderings (endpoint_id, ordering_key)
SELECT k.endpoint_id, k.ordering_key FROM {_GIVEN}
WHERE NOT EXISTS (
    SELECT FROM signalpost.orderings o
    WHERE o.endpoint_id = k.endpoint_id AND o.ordering_key = k.ordering_key)
ORDER BY 1, 2
ON CONFLICT DO NOTHING
""")

_LOCK_KEYS = f"""
SELECT o.endpoint_id, o.ordering_key
FROM {_GIVEN}
JOIN signalpost.orderings o USING (endpoint_id, ordering_key)
ORDER BY o.endpoint_id, o.ordering_key
FOR UPDATE OF o"""
_WAIT_FOR_KEYS = text(_LOCK_KEYS)
_TAKE_KEYS = text(f"{_LOCK_KEYS} SKIP LOCKED")

HEAD = """h.ordered AND (h.status = 'sending' OR (h.status = 'pending' AND h.held IS NULL))"""

_PROMOTE = text(f"""
WITH next AS MATERIALIZED (
    SELECT n.id, n.endpoint_id, n.ordering_key
    FROM {_GIVEN}
    JOIN signalpost.orderings o USING (endpoint_id, ordering_key)
    CROSS JOIN LATERAL (
        SELECT d.id, d.endpoint_id, d.ordering_key, d.held
        FROM signalpost.deliveries d
        WHERE d.endpoint_id = k.endpoint_id AND d.ordering_key = k.ordering_key
          AND d.status = 'pending' AND d.ordered AND d.held IS NOT NULL
        ORDER BY d.position
        LIMIT 1
    ) n
    WHERE n.held <> 'superseding'
      AND NOT EXISTS (
        SELECT FROM signalpost.deliveries h
        WHERE h.endpoint_id = k.endpoint_id AND h.ordering_key = k.ordering_key AND {HEAD})
      AND NOT EXISTS (
        SELECT FROM signalpost.deliveries b WHERE b.id = o.blocked_by AND b.status = 'dead')
), moved AS (
    UPDATE signalpost.deliveries d SET held = NULL
    FROM next
    WHERE d.id = next.id AND d.status = 'pending' AND d.held IN ('new', 'behind')
    RETURNING d.id
)
SELECT next.endpoint_id, next.ordering_key, moved.id
FROM next LEFT JOIN moved ON moved.id = next.id
""")

_NEW = """
SELECT d.id, d.endpoint_id, d.ordering_key FROM signalpost.deliveries d
WHERE d.status = 'pending' AND d.held = 'new' {but}
ORDER BY d.position
LIMIT :limit"""
BUT = f"""AND NOT EXISTS (
    SELECT FROM {_GIVEN} WHERE k.endpoint_id = d.endpoint_id AND k.ordering_key = d.ordering_key)"""
_FIRST_NEW, _OTHER_NEW = text(_NEW.format(but="")), text(_NEW.format(but=BUT))

_UNBLOCK = text("""
UPDATE signalpost.orderings o SET blocked_by = NULL
FROM signalpost.deliveries d
WHERE d.id = ANY(CAST(:ids AS uuid[])) AND d.status = 'dead' AND o.endpoint_id = d.endpoint_id
  AND o.ordering_key = d.ordering_key AND o.blocked_by = d.id
RETURNING d.id
""")

_BLOCKERS = text("""
SELECT blocked_by FROM signalpost.orderings
WHERE endpoint_id = :endpoint_id AND blocked_by IS NOT NULL
""")

# Not one that came meanwhile: the promotion may not have seen it.
_SETTLE = text("""
UPDATE signalpost.deliveries SET held = 'behind'
WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'pending' AND held = 'new'
""")

# The last number given, of one that was never sent: no counted attempt since it got that number.
_GIVE_BACK = text("""
WITH unsent AS (
    UPDATE signalpost.orderings o SET sequence = o.sequence - 1
    FROM signalpost.deliveries d
    WHERE d.id = ANY(CAST(:ids AS uuid[])) AND d.sequence = o.sequence AND d.spent = 0
      AND d.status IN ('dead', 'expired', 'cancelled', 'superseded')
      AND o.endpoint_id = d.endpoint_id AND o.ordering_key = d.ordering_key
    RETURNING d.id
)
UPDATE signalpost.deliveries d SET sequence = NULL FROM unsent WHERE d.id = unsent.id
""")

_FIND_STUCK = text(f"""
WITH RECURSIVE walked AS (
    (SELECT endpoint_id, ordering_key FROM signalpost.deliveries
     WHERE status IN ('pending', 'sending')
       AND (endpoint_id, ordering_key) > (CAST(:endpoint_id AS bigint), CAST(:key AS text))
     ORDER BY endpoint_id, ordering_key LIMIT 1)
    UNION ALL
    SELECT n.endpoint_id, n.ordering_key
    FROM walked w CROSS JOIN LATERAL (
        SELECT d.endpoint_id, d.ordering_key FROM signalpost.deliveries d
        WHERE d.status IN ('pending', 'sending')
          AND (d.endpoint_id, d.ordering_key) > (w.endpoint_id, w.ordering_key)
        ORDER BY d.endpoint_id, d.ordering_key LIMIT 1) n
), keys AS MATERIALIZED (
    SELECT endpoint_id, ordering_key FROM walked LIMIT :limit
), free AS MATERIALIZED (
    SELECT d.id
    FROM keys k
    CROSS JOIN LATERAL (
        SELECT f.id FROM signalpost.deliveries f
        WHERE f.endpoint_id = k.endpoint_id AND f.ordering_key = k.ordering_key
          AND f.status = 'pending' AND f.ordered AND f.held IS NOT NULL
        ORDER BY f.position LIMIT 1) first
    JOIN signalpost.deliveries d ON d.id = first.id
    LEFT JOIN signalpost.orderings o
        ON o.endpoint_id = k.endpoint_id AND o.ordering_key = k.ordering_key
    WHERE d.status = 'pending' AND d.held = 'behind'
      AND NOT EXISTS (
        SELECT FROM signalpost.deliveries h
        WHERE h.endpoint_id = k.endpoint_id AND h.ordering_key = k.ordering_key AND {HEAD})
      AND NOT EXISTS (
        SELECT FROM signalpost.deliveries b WHERE b.id = o.blocked_by AND b.status = 'dead')
    FOR UPDATE OF d SKIP LOCKED
), stuck AS (
    UPDATE signalpost.deliveries d SET held = 'new' FROM free WHERE d.id = free.id
    RETURNING d.id
)
SELECT (SELECT count(*) FROM stuck) AS stuck, (SELECT count(*) FROM keys) AS walked,
    last.endpoint_id, last.ordering_key
FROM (VALUES (1)) one
LEFT JOIN LATERAL (
    SELECT endpoint_id, ordering_key FROM keys ORDER BY endpoint_id DESC, ordering_key DESC LIMIT 1
) last ON true
""")


@dataclass(frozen=True, slots=True)
class Placed:
    """What placing did: ``heads`` may be claimed now; ``left``: there was more to place."""

    heads: list[UUID]
    left: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the walk over all keys: how many were stuck, and where the next one begins."""

    stuck: int
    after: Key


START: Key = (0, "")


def columns(keys: Iterable[Key]) -> dict[str, list[object]]:
    """The parameters that give these keys to a statement (see ``BUT``)."""
    ordered = sorted(set(keys))
    return {
        "endpoint_ids": [endpoint_id for endpoint_id, _ in ordered],
        "ordering_keys": [ordering_key for _, ordering_key in ordered],
    }


def lock_keys(connection: Connection, keys: Iterable[Key]) -> None:
    """Lock keys that exist, waiting for them; before any of their deliveries' rows are locked."""
    wanted = set(keys)
    if wanted:
        connection.execute(_WAIT_FOR_KEYS, columns(wanted))


def take_keys(connection: Connection, keys: Iterable[Key]) -> set[Key]:
    """Lock those of these keys that nobody holds, and return them; waits for nobody."""
    wanted = set(keys)
    if not wanted:
        return set()
    rows = connection.execute(_TAKE_KEYS, columns(wanted))
    return {(row.endpoint_id, row.ordering_key) for row in rows}


def lock_keys_of(connection: Connection, delivery_ids: Sequence[UUID]) -> set[Key]:
    """Lock the ordering keys of these deliveries, and return them."""
    rows = connection.execute(_KEYS_OF, {"ids": list(delivery_ids)})
    keys = {(row.endpoint_id, row.ordering_key) for row in rows}
    lock_keys(connection, keys)
    return keys


def promote(
    connection: Connection, keys: Iterable[Key], *, unsent: Sequence[UUID] = ()
) -> list[UUID]:
    """Let the next of each key go that has no head, in the transaction that ended the last one.

    Args:
        connection: in a transaction that holds the keys' locks, taken in an earlier statement.
        keys: whose.
        unsent: those that ended and may never have been sent, so that their number is free again.

    Returns:
        The new heads.
    """
    heads: list[UUID] = []
    left = set(keys)
    if left and unsent:
        connection.execute(_GIVE_BACK, {"ids": list(unsent)})
    while left:
        found = connection.execute(_PROMOTE, columns(left)).all()
        heads.extend(row.id for row in found if row.id is not None)
        # Somebody else has just ended the candidate; the next look finds the one after it.
        left = {(row.endpoint_id, row.ordering_key) for row in found if row.id is None}
    return heads


def unblock(connection: Connection, delivery_ids: Sequence[UUID]) -> int:
    """Let the successors go that dead deliveries hold up, by a person's decision.

    Returns:
        How many keys were blocked by one of these.
    """
    return len(release_blocked(connection, delivery_ids))


def release_blocked(connection: Connection, delivery_ids: Sequence[UUID]) -> list[UUID]:
    """The same; returns those of them that held up others."""
    keys = lock_keys_of(connection, delivery_ids)
    if not keys:
        return []
    cleared = connection.execute(_UNBLOCK, {"ids": list(delivery_ids)}).scalars().all()
    promote(connection, keys)
    return list(cleared)


def unblock_endpoint(connection: Connection, endpoint_id: int) -> int:
    """The same for all keys of an endpoint, whose dead ones hold up nobody from now on."""
    blockers = connection.execute(_BLOCKERS, {"endpoint_id": endpoint_id}).scalars().all()
    return unblock(connection, blockers) if blockers else 0


def place_new(connection: Connection, *, limit: int) -> Placed:
    """Give each newly enqueued delivery of an ordered endpoint its place, in its own transaction.

    Keys that somebody holds are left to the next call, and what is new behind them in the list is
    placed all the same; nothing waits here.
    """
    passed: set[Key] = set()
    found = connection.execute(_FIRST_NEW, {"limit": limit}).all()
    while found:
        keys = {(row.endpoint_id, row.ordering_key) for row in found}
        connection.execute(_MAKE_KEYS, columns(keys))
        held = take_keys(connection, keys)
        heads = promote(connection, held)
        behind = [
            row.id
            for row in found
            if (row.endpoint_id, row.ordering_key) in held and row.id not in heads
        ]
        if behind:
            connection.execute(_SETTLE, {"ids": behind})
        passed |= keys - held
        full = len(found) == limit
        if heads or not full or held == keys:
            return Placed(heads, left=bool(passed) or full)
        found = connection.execute(_OTHER_NEW, {"limit": limit, **columns(passed)}).all()
    return Placed([], left=bool(passed))


def find_stuck(connection: Connection, *, after: Key, limit: int) -> Step:
    """Walk ``limit`` keys from ``after`` on; whoever is held there for no reason is placed again.

    Where somebody is at such a one, it is left to the next walk; nothing waits here.

    Returns:
        How many were, and where to go on: at the start again once the end was reached.
    """
    row = connection.execute(
        _FIND_STUCK, {"endpoint_id": after[0], "key": after[1], "limit": limit}
    ).one()
    end = row.walked < limit or row.endpoint_id is None
    return Step(row.stuck, START if end else (row.endpoint_id, row.ordering_key))
