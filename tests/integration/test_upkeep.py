from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, func, select

from signalpost.models import AlertRow, AttemptRow, DeliveryRow, SignalRow, WorkerRow
from signalpost.repository import notices, pruning
from signalpost.upkeep import prune
from tests import rows


def size(engine: Engine, table: type) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_prune_deletes_only_what_finished_before_the_retention(engine: Engine) -> None:
    """Old finished deliveries go with their signals; new ones and unfinished ones stay."""
    with engine.begin() as connection:
        now = rows.database_now(connection)
        old, new = now - timedelta(days=31), now - timedelta(days=29)
        endpoint_id = rows.add_endpoint(connection)
        common = {"endpoint_id": endpoint_id, "next_attempt_at": None}
        for _ in range(3):
            rows.add_delivery(connection, status="delivered", finished_at=old, **common)
        kept = rows.add_delivery(connection, status="dead", finished_at=new, **common)
        waiting = rows.add_delivery(connection, endpoint_id=endpoint_id, created_at=old)
        shared = rows.add_signal(connection)
        other = rows.add_endpoint(connection)
        rows.add_delivery(
            connection, status="delivered", finished_at=old, signal_id=shared, **common
        )
        sibling = rows.add_delivery(connection, signal_id=shared, endpoint_id=other)
        rows.add_worker(connection, renewed_at=now - timedelta(days=3))
        rows.add_worker(connection)
    assert prune(engine, retention_days=30) == 4
    with engine.connect() as connection:
        left = set(connection.execute(select(DeliveryRow.id)).scalars())
    assert left == {kept, waiting, sibling}
    assert size(engine, SignalRow) == 3
    assert size(engine, AttemptRow) == 0
    assert size(engine, WorkerRow) == 1
    assert prune(engine, retention_days=30) == 0


def test_a_dead_letter_whose_alert_was_never_sent_is_not_deleted(engine: Engine) -> None:
    """Nothing dead disappears before the operator has been told."""
    with engine.begin() as connection:
        old = rows.database_now(connection) - timedelta(days=99)
        dead = rows.add_delivery(connection, status="dead", finished_at=old, next_attempt_at=None)
        alert_id = rows.add_alert(connection, kind="dead", delivery_id=dead)
    assert prune(engine, retention_days=30) == 0
    with engine.begin() as connection:
        rows.mark_alert_sent(connection, alert_id)
    assert prune(engine, retention_days=30) == 1


def test_two_prunes_at_once_leave_no_signal_behind(engine: Engine) -> None:
    """While one prune is under way another one deletes nothing, so a signal goes with its last
    delivery.
    """
    with engine.begin() as connection:
        old = rows.database_now(connection) - timedelta(days=99)
        signal_id = rows.add_signal(connection)
        for _ in range(2):
            rows.add_delivery(
                connection,
                signal_id=signal_id,
                status="delivered",
                finished_at=old,
                next_attempt_at=None,
            )
    with engine.begin() as first, engine.begin() as second:
        assert pruning.prune_finished(first, retention_days=30, limit=1) == 1
        assert pruning.prune_finished(second, retention_days=30, limit=1) is None
    assert prune(engine, retention_days=30) == 1
    assert size(engine, SignalRow) == 0


def test_old_notices_go_too(engine: Engine) -> None:
    """A notice that was sent before the retention is deleted; unsent and newer ones stay."""
    with engine.begin() as connection:
        old = rows.database_now(connection) - timedelta(days=31)
        new = rows.database_now(connection) - timedelta(days=29)
        rows.add_alert(connection, kind="clock_off", created_at=old, sent_at=old, receipt="1")
        kept = {
            rows.add_alert(connection, kind="clock_off", created_at=old, sent_at=new, receipt="2"),
            rows.add_alert(connection, kind="clock_off", created_at=old),
        }
    prune(engine, retention_days=30)
    with engine.connect() as connection:
        assert set(connection.execute(select(AlertRow.id)).scalars()) == kept


def test_a_notice_is_raised_once_until_it_is_old(engine: Engine) -> None:
    """The same trouble does not alert again while it is open or was told lately."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection)

        def raise_it(quiet_seconds: float = 3600) -> int | None:
            return notices.raise_notice(
                connection,
                kind="secret_unreadable",
                endpoint_id=endpoint_id,
                quiet_seconds=quiet_seconds,
            )

        first = raise_it()
        assert first is not None
        assert raise_it() is None
        rows.mark_alert_sent(connection, first)
        assert raise_it() is None
        assert raise_it(quiet_seconds=0) is not None
