"""Deletion of what is finished and past its retention, in batches that no claim notices."""

from __future__ import annotations

from sqlalchemy import Connection, text

_PRUNING_LOCK = 0x7072756E65  # "prune"

# Two at once could each delete one delivery of a signal, each still seeing the other's: the signal
# would stay for ever. A transaction's lock ends with it, however that ends.
_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock)")

# A delivery whose alert has not reached the operator stays, however old: promise 2. So does a dead
# one that others wait behind (on_dead = block): without it they would go, though nobody let them.
_PRUNE_DELIVERIES = text("""
DELETE FROM signalpost.deliveries
WHERE id IN (
    SELECT d.id FROM signalpost.deliveries d
    WHERE d.finished_at < statement_timestamp() - make_interval(days => :days)
      AND d.status NOT IN ('pending', 'sending')
      AND NOT EXISTS (
        SELECT FROM signalpost.alerts a WHERE a.delivery_id = d.id AND a.sent_at IS NULL)
      AND NOT EXISTS (
        SELECT FROM signalpost.orderings o
        WHERE o.endpoint_id = d.endpoint_id AND o.ordering_key = d.ordering_key
          AND o.blocked_by = d.id AND d.status = 'dead' AND EXISTS (
            SELECT FROM signalpost.deliveries w
            WHERE w.endpoint_id = o.endpoint_id AND w.ordering_key = o.ordering_key
              AND w.status = 'pending' AND w.ordered))
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

# Those that no filter took have no delivery to go with.
_PRUNE_UNTAKEN = text("""
DELETE FROM signalpost.signals
WHERE id IN (
    SELECT s.id FROM signalpost.signals s
    WHERE s.created_at < statement_timestamp() - make_interval(days => :days)
      AND NOT EXISTS (SELECT FROM signalpost.deliveries d WHERE d.signal_id = s.id)
    LIMIT :limit
    FOR UPDATE SKIP LOCKED)
""")

# However young, and waiting ones as well: only for a producer that somebody made for one run.
_FORGET = text("""
DELETE FROM signalpost.deliveries
WHERE id IN (
    SELECT d.id FROM signalpost.signals s
    JOIN signalpost.deliveries d ON d.signal_id = s.id
    WHERE s.producer_id = :producer_id
      AND d.status <> 'sending'
      AND NOT EXISTS (
        SELECT FROM signalpost.alerts a WHERE a.delivery_id = d.id AND a.sent_at IS NULL)
    LIMIT :limit
    FOR UPDATE OF d SKIP LOCKED)
RETURNING signal_id
""")

_SIGNALS_OF = text("SELECT count(*) FROM signalpost.signals WHERE producer_id = :producer_id")

_PRUNE_NOTICES = text("""
DELETE FROM signalpost.alerts
WHERE id IN (
    SELECT id FROM signalpost.alerts
    WHERE delivery_id IS NULL AND sent_at < statement_timestamp() - make_interval(days => :days)
    LIMIT :limit
    FOR UPDATE SKIP LOCKED)
""")


def prune_finished(connection: Connection, *, retention_days: int, limit: int) -> int | None:
    """Delete up to ``limit`` deliveries finished more than ``retention_days`` ago.

    Their attempts and sent alerts go with them, and their signals once no delivery is left.

    Returns:
        How many deliveries were deleted; None where another one is pruning at this moment.
    """
    if not connection.execute(_LOCK, {"lock": _PRUNING_LOCK}).scalar_one():
        return None
    signal_ids = list(
        connection.execute(_PRUNE_DELIVERIES, {"days": retention_days, "limit": limit}).scalars()
    )
    if signal_ids:
        connection.execute(_PRUNE_SIGNALS, {"ids": list(set(signal_ids))})
    return len(signal_ids)


def prune_untaken(connection: Connection, *, retention_days: int, limit: int) -> int:
    """Delete up to ``limit`` signals that no endpoint's filter took, as old as that."""
    if not connection.execute(_LOCK, {"lock": _PRUNING_LOCK}).scalar_one():
        return 0
    values = {"days": retention_days, "limit": limit}
    return connection.execute(_PRUNE_UNTAKEN, values).rowcount


def forget_producer(connection: Connection, producer_id: str, *, limit: int) -> int:
    """Delete up to ``limit`` deliveries of a producer, finished or not, and their signals.

    What is being sent at this moment stays, and what an alert has still to tell of.

    Returns:
        How many signals of the producer are left.
    """
    values = {"producer_id": producer_id, "limit": limit}
    signal_ids = list(connection.execute(_FORGET, values).scalars())
    if signal_ids:
        connection.execute(_PRUNE_SIGNALS, {"ids": list(set(signal_ids))})
    return int(connection.execute(_SIGNALS_OF, {"producer_id": producer_id}).scalar_one())


def prune_notices(connection: Connection, *, retention_days: int, limit: int) -> int:
    """Delete up to ``limit`` alerts about no delivery, sent more than ``retention_days`` ago."""
    values = {"days": retention_days, "limit": limit}
    return connection.execute(_PRUNE_NOTICES, values).rowcount
