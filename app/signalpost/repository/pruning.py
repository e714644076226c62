"""Deletion of finished deliveries past their retention, in batches that no claim notices."""

from __future__ import annotations

from sqlalchemy import Connection, text

# A delivery whose alert has not reached the operator stays, however old: promise 2.
_PRUNE_DELIVERIES = text("""
DELETE FROM signalpost.deliveries
WHERE id IN (
    SELECT d.id FROM signalpost.deliveries d
    WHERE d.finished_at < statement_timestamp() - make_interval(days => :days)
      AND d.status NOT IN ('pending', 'sending')
      AND NOT EXISTS (
        SELECT FROM signalpost.alerts a WHERE a.delivery_id = d.id AND a.sent_at IS NULL)
    ORDER BY d.finished_at
    LIMIT :limit
    FOR UPDATE SKIP LOCKED)
RETURNING signal_id
""")

_PRUNE_SIGNALS = text("""
DELETE FROM signalpost.signals s
WHERE s.id = ANY(CAST(:ids AS uuid[]))
  AND NOT EXISTS (SELECT FROM signalpost.deliveries d WHERE d.signal_id = s.id)
""")


def prune_finished(connection: Connection, *, retention_days: int, limit: int) -> int:
    """Delete up to ``limit`` deliveries finished more than ``retention_days`` ago.

    Their attempts and sent alerts go with them, and their signals once no delivery is left.

    Returns:
        How many deliveries were deleted.
    """
    signal_ids = list(
        connection.execute(_PRUNE_DELIVERIES, {"days": retention_days, "limit": limit}).scalars()
    )
    if signal_ids:
        connection.execute(_PRUNE_SIGNALS, {"ids": list(set(signal_ids))})
    return len(signal_ids)
