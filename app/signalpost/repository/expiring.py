"""The end of lives: pending deliveries past their expiry, whatever holds them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from signalpost.repository.claimed import Expired
from signalpost.repository.keys import BUT, Key, columns, take_keys
from signalpost.repository.looking import NOW
from signalpost.repository.placing import promote

__all__ = ["expire_pending"]

_WHERE_OVER = f"d.status = 'pending' AND d.expires_at <= {NOW}"

_OVER = f"""
SELECT d.id, d.endpoint_id, d.ordered, d.ordering_key
FROM signalpost.deliveries d
WHERE {_WHERE_OVER} {{but}}
ORDER BY d.expires_at
LIMIT :limit"""
_FIRST_OVER, _OTHER_OVER = (
    text(_OVER.format(but="")),
    text(_OVER.format(but="AND d.ordered " + BUT)),
)

_END = f"""
, over AS (
    UPDATE signalpost.deliveries d
    SET status = 'expired', reason = 'expired', next_attempt_at = NULL, finished_at = {NOW}
    FROM due WHERE d.id = due.id
    RETURNING d.id, d.endpoint_id
)
INSERT INTO signalpost.alerts (kind, delivery_id, endpoint_id)
SELECT 'expired', id, endpoint_id FROM over
RETURNING delivery_id, id AS alert_id"""

_EXPIRE_UNORDERED = text(f"""
WITH due AS MATERIALIZED (
    SELECT d.id
    FROM signalpost.deliveries d
    WHERE {_WHERE_OVER} AND NOT d.ordered
    ORDER BY d.expires_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
){_END}""")

_EXPIRE_NAMED = text(f"""
WITH due AS MATERIALIZED (
    SELECT d.id
    FROM signalpost.deliveries d
    WHERE d.id = ANY(CAST(:ids AS uuid[])) AND {_WHERE_OVER}
    FOR UPDATE SKIP LOCKED
){_END}""")


def expire_pending(
    connection: Connection, *, limit: int, now: datetime | None = None
) -> list[Expired]:
    """End pending deliveries past their expiry, whatever holds them, each with its alert.

    Raises nothing; a row or a key that somebody is at is left to the next call, and those behind
    it are ended all the same.

    Returns:
        What was ended; at least ``limit`` where there may be more, and less than twice that.
    """
    found = connection.execute(_FIRST_OVER, {"limit": limit, "now": now}).all()
    ended: list[Expired] = []
    passed: set[Key] = set()
    if len(found) == limit or not all(row.ordered for row in found):
        rows = connection.execute(_EXPIRE_UNORDERED, {"limit": limit, "now": now})
        ended += [Expired(row.delivery_id, row.alert_id) for row in rows]
    while found:
        mine = [row for row in found if row.ordered]
        taken = take_keys(connection, {_key(row) for row in mine})
        free = [row.id for row in mine if _key(row) in taken]
        rows = connection.execute(_EXPIRE_NAMED, {"ids": free, "now": now})
        over = {row.delivery_id: Expired(row.delivery_id, row.alert_id) for row in rows}
        promote(connection, taken, unsent=list(over))
        ended += over.values()
        passed |= {_key(row) for row in mine if row.id not in over}
        if len(found) < limit or len(ended) >= limit:
            break
        values = {"limit": limit, "now": now, **columns(passed)}
        found = connection.execute(_OTHER_OVER, values).all()
    return ended


def _key(row: Row[Any]) -> Key:
    return (row.endpoint_id, row.ordering_key)
