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
4. whatever is held all the same (a row changed by hand, a bug) is found by walking.py,
   which walks all keys that have something live and makes such a one `new` again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.repository.keys import BUT, GIVEN, UNHINDERED, Key, columns, take_keys

__all__ = ["Placed", "place_new", "promote"]

_MAKE_KEYS = text(f"""
INSERT INTO signalpost.orderings (endpoint_id, ordering_key)
SELECT k.endpoint_id, k.ordering_key FROM {GIVEN}
WHERE NOT EXISTS (
    SELECT FROM signalpost.orderings o
    WHERE o.endpoint_id = k.endpoint_id AND o.ordering_key = k.ordering_key)
ORDER BY 1, 2
ON CONFLICT DO NOTHING
""")

_PROMOTE = text(f"""
WITH next AS MATERIALIZED (
    SELECT n.id, n.endpoint_id, n.ordering_key
    FROM {GIVEN}
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
      AND {UNHINDERED}
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
_FIRST_NEW, _OTHER_NEW = text(_NEW.format(but="")), text(_NEW.format(but=BUT))

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


@dataclass(frozen=True, slots=True)
class Placed:
    """What placing did: ``heads`` may be claimed now; ``left``: there was more to place."""

    heads: list[UUID]
    left: bool


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
