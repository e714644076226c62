"""Upkeep: deletion past the retention, in small committed batches."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import Connection, Engine

from signalpost.repository import auditing, liveness, pruning, rotation

logger = logging.getLogger(__name__)

BATCH = 500
FORGET_WORKERS_SECONDS = 86_400.0


def prune(database: Engine, *, retention_days: int, most_batches: int = 1000) -> int:
    """Delete deliveries, signals that nobody took, notices past the retention, workers long gone.

    The secrets whose replacement is over go as well, and acts in the audit trail after a year.

    Args:
        database: where; every batch is a transaction of its own, so that no claim waits for it.
        retention_days: how long a finished delivery, or a notice that was sent, is kept.
        most_batches: a bound on one run; the next one goes on.

    Returns:
        How many deliveries were deleted; none while another run is at it.
    """

    def deliveries(connection: Connection) -> int:
        batch = pruning.prune_finished(connection, retention_days=retention_days, limit=BATCH)
        if batch is None:
            logger.info("somebody else is pruning")
        return batch or 0

    def notices(connection: Connection) -> int:
        return pruning.prune_notices(connection, retention_days=retention_days, limit=BATCH)

    def acts(connection: Connection) -> int:
        return auditing.prune_audit(connection, retention_days=retention_days, limit=BATCH)

    def signals(connection: Connection) -> int:
        return pruning.prune_untaken(connection, retention_days=retention_days, limit=BATCH)

    deleted = _in_batches(database, deliveries, most_batches)
    _in_batches(database, signals, most_batches)
    _in_batches(database, acts, most_batches)
    told = _in_batches(database, notices, most_batches)
    with database.begin() as connection:
        liveness.forget_workers(connection, silence_seconds=FORGET_WORKERS_SECONDS)
        rotation.forget_previous_secrets(connection)
    logger.info("pruned deliveries=%d notices=%d older than days=%d", deleted, told, retention_days)
    return deleted


def _in_batches(database: Engine, work: Callable[[Connection], int], most: int) -> int:
    deleted = 0
    for _ in range(most):
        with database.begin() as connection:
            batch = work(connection)
        deleted += batch
        if batch < BATCH:
            break
    return deleted
