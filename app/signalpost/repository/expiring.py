"""The end of lives: pending deliveries past their expiry, whatever holds them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, text

from signalpost.repository.claimed import Expired
from signalpost.repository.looking import NOW
from signalpost.repository.placing import promote, take_keys

__all__ = ["expire_pending"]

_OVER = text(f"""
SELECT d.id, d.endpoint_id, d.ordered, d.ordering_key
FROM signalpost.deliveries d
WHERE d.status = 'pending' AND d.expires_at <= {NOW}
ORDER BY d.expires_at
LIMIT :limit
""")

_EXPIRE = text(f"""
WITH due AS MATERIALIZED (
    SELECT d.id
    FROM signalpost.deliveries d
    WHERE d.id = ANY(CAST(:ids AS uuid[])) AND d.status = 'pending' AND d.expires_at <= {NOW}
    FOR UPDATE SKIP LOCKED
), over AS (
    UPDATE signalpost.deliveries d
    SET status = 'expired', reason = 'expired', next_attempt_at = NULL, finished_at = {NOW}
    FROM due WHERE d.id = due.id
    RETURNING d.id, d.endpoint_id
)
INSERT INTO signalpost.alerts (kind, delivery_id, endpoint_id)
SELECT 'expired', id, endpoint_id FROM over
RETURNING delivery_id, id AS alert_id
""")


def expire_pending(
    connection: Connection, *, limit: int, now: datetime | None = None
) -> list[Expired]:
    """End pending deliveries past their expiry, whatever holds them, each with its alert.

    Raises nothing; a row that somebody is at is left to the next look.
    """
    found = connection.execute(_OVER, {"limit": limit, "now": now}).all()
    if not found:
        return []
    keys = {(row.endpoint_id, row.ordering_key) for row in found if row.ordered}
    taken = take_keys(connection, keys)
    free = [row for row in found if not row.ordered or (row.endpoint_id, row.ordering_key) in taken]
    values = {"ids": [row.id for row in free], "now": now}
    ended = [Expired(row.delivery_id, row.alert_id) for row in connection.execute(_EXPIRE, values)]
    promote(connection, taken, unsent=[one.delivery_id for one in ended])
    return ended
