"""Upkeep: deletion past the retention, in small committed batches."""

from __future__ import annotations

import logging

from sqlalchemy import Engine

from signalpost.repository import liveness, pruning

logger = logging.getLogger(__name__)

BATCH = 500
FORGET_WORKERS_SECONDS = 86_400.0


def prune(database: Engine, *, retention_days: int, most_batches: int = 1000) -> int:
    """Delete deliveries finished more than ``retention_days`` ago, and workers long gone.

    Args:
        database: where; every batch is a transaction of its own, so that no claim waits for it.
        retention_days: how long a finished delivery is kept.
        most_batches: a bound on one run; the next one goes on.

    Returns:
        How many deliveries were deleted.
    """
    deleted = 0
    for _ in range(most_batches):
        with database.begin() as connection:
            batch = pruning.prune_finished(connection, retention_days=retention_days, limit=BATCH)
        deleted += batch
        if batch < BATCH:
            break
    with database.begin() as connection:
        liveness.forget_workers(connection, silence_seconds=FORGET_WORKERS_SECONDS)
    logger.info("pruned deliveries=%d older than days=%d", deleted, retention_days)
    return deleted
