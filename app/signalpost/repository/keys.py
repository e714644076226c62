"""The locks on ordering keys: who holds one decides what of it goes next (see placing.py).

They are taken before the rows of deliveries, and several of them in one order, everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import Connection, text

__all__ = ["BUT", "GIVEN", "UNHINDERED", "Key", "columns", "lock_keys", "lock_keys_of", "take_keys"]

Key = tuple[int, str]
"""An endpoint's id and an ordering key."""

GIVEN = """unnest(CAST(:endpoint_ids AS bigint[]), CAST(:ordering_keys AS text[]))
    AS k (endpoint_id, ordering_key)"""
"""Keys as a table `k`, from the parameters of :func:`columns`."""

BUT = f"""AND NOT EXISTS (
    SELECT FROM {GIVEN} WHERE k.endpoint_id = d.endpoint_id AND k.ordering_key = d.ordering_key)"""
"""What belongs to none of the given keys, of deliveries `d`."""

# One is the key's head: it may be claimed, or is under way. Or a dead one blocks it.
UNHINDERED = """NOT EXISTS (
        SELECT FROM signalpost.deliveries h
        WHERE h.endpoint_id = k.endpoint_id AND h.ordering_key = k.ordering_key
          AND h.ordered AND (h.status = 'sending' OR (h.status = 'pending' AND h.held IS NULL)))
      AND NOT EXISTS (
        SELECT FROM signalpost.deliveries b
        JOIN signalpost.endpoints e ON e.id = b.endpoint_id AND e.on_dead = 'block'
        WHERE b.id = o.blocked_by AND b.status = 'dead')"""
"""Whether the next of a key `k` may go, whose row is `o`."""

_KEYS_OF = text("""
SELECT DISTINCT endpoint_id, ordering_key FROM signalpost.deliveries
WHERE id = ANY(CAST(:ids AS uuid[])) AND ordered
""")

_LOCK_KEYS = f"""
SELECT o.endpoint_id, o.ordering_key
FROM {GIVEN}
JOIN signalpost.orderings o USING (endpoint_id, ordering_key)
ORDER BY o.endpoint_id, o.ordering_key
FOR UPDATE OF o"""
_WAIT_FOR_KEYS = text(_LOCK_KEYS)
_TAKE_KEYS = text(f"{_LOCK_KEYS} SKIP LOCKED")


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
