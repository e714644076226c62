"""What a dead delivery holds up, where its endpoint blocks: let go by a person's decision."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.repository.keys import lock_keys_of
from signalpost.repository.placing import promote

__all__ = ["release_blocked", "unblock", "unblock_endpoint"]

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
