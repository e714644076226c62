"""The net under the order: a walk over all keys, for what is held for no reason."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from signalpost.repository.keys import UNHINDERED, Key

__all__ = ["START", "Step", "find_stuck"]

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
      AND {UNHINDERED}
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
class Step:
    """One step of the walk over all keys: how many were stuck, and where the next one begins."""

    stuck: int
    after: Key


START: Key = (0, "")


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
