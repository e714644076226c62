"""What has happened to deliveries since the last look: the live tail's eyes.

A row has no time of its last change, so small sets are read, each by its index: what was enqueued
or finished of late, what is being sent or due next, and what an earlier look saw unfinished.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.repository.reading import LINE, DeliveryLine, line_of
from signalpost.repository.selecting import Selection, conditions

__all__ = ["lines_since"]

_SETS = (
    """SELECT id FROM signalpost.deliveries
    WHERE created_at >= CAST(:after AS timestamptz) ORDER BY created_at DESC LIMIT :most""",
    """SELECT id FROM signalpost.deliveries
    WHERE finished_at IS NOT NULL AND finished_at >= CAST(:after AS timestamptz)
    ORDER BY finished_at DESC LIMIT :most""",
    "SELECT id FROM signalpost.deliveries WHERE status = 'sending' LIMIT :most",
    """SELECT id FROM signalpost.deliveries
    WHERE status = 'pending' ORDER BY next_attempt_at LIMIT :most""",
    "SELECT unnest(CAST(:known AS uuid[])) AS id",
)


def lines_since(
    conn: Connection,
    after: datetime,
    known: Sequence[UUID],
    selection: Selection,
    *,
    most: int,
) -> list[DeliveryLine]:
    """Deliveries that may have changed since `after`, in the order in which they were enqueued.

    Args:
        conn: in a transaction of the caller's.
        after: a moment of database time, a little before the last look: who commits late is seen.
        known: unfinished deliveries that an earlier look has seen.
        selection: only what it means.
        most: of each kind of change, the newest of them.
    """
    written, values = conditions(selection)
    where = " AND ".join(written or ["true"])
    # Materialised, or the planner might join first and look for the few afterwards.
    statement = f"""WITH changed AS MATERIALIZED (
            {" UNION ".join(f"({one})" for one in _SETS)})
        SELECT {LINE} FROM changed
        JOIN signalpost.deliveries d ON d.id = changed.id
        JOIN signalpost.signals s ON s.id = d.signal_id
        JOIN signalpost.endpoints e ON e.id = d.endpoint_id
        WHERE {where} ORDER BY d.created_at, d.id"""
    asked: dict[str, Any] = {**values, "after": after, "known": list(known), "most": most}
    return [line_of(row) for row in conn.execute(text(statement), asked)]
