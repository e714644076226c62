"""Rows for tests, put straight into the tables, with everything overridable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from signalpost.broker import Announcement, Broker
from signalpost.database import is_lock_timeout
from signalpost.models import (
    AlertRow,
    AttemptRow,
    DeliveryRow,
    EndpointRow,
    SignalRow,
    WorkerRow,
)

Result = TypeVar("Result")


def add_endpoint(connection: Connection, **values: Any) -> int:
    """An endpoint; returns its id."""
    row = {
        "name": f"endpoint-{uuid4().hex[:8]}",
        "url": "http://127.0.0.1:9/hook",
        "secret_ciphertext": b"sealed",
        **values,
    }
    return int(
        connection.execute(insert(EndpointRow).values(row).returning(EndpointRow.id)).scalar_one()
    )


def add_signal(connection: Connection, **values: Any) -> UUID:
    """A signal; returns its id."""
    row = {
        "id": uuid4(),
        "producer_id": "tests",
        "idempotency_key": uuid4().hex,
        "body": b"{}",
        "instrument": "AAPL",
        "side": "buy",
        "action": "open",
        **values,
    }
    return connection.execute(insert(SignalRow).values(row).returning(SignalRow.id)).scalar_one()


def add_delivery(connection: Connection, **values: Any) -> UUID:
    """A delivery, pending and due, with a signal and an endpoint of its own; returns its id."""
    if "signal_id" not in values:
        values["signal_id"] = add_signal(connection)
    if "endpoint_id" not in values:
        values["endpoint_id"] = add_endpoint(connection)
    statement = insert(DeliveryRow).values(values).returning(DeliveryRow.id)
    return connection.execute(statement).scalar_one()


def add_worker(connection: Connection, **values: Any) -> UUID:
    """A worker that renewed just now; returns its id."""
    row = {"id": uuid4(), "name": "host:1", **values}
    return connection.execute(insert(WorkerRow).values(row).returning(WorkerRow.id)).scalar_one()


def delivery(connection: Connection, delivery_id: UUID) -> Mapping[str, Any]:
    """One delivery as it stands."""
    table = DeliveryRow.__table__
    return dict(connection.execute(select(table).where(table.c.id == delivery_id)).mappings().one())


def attempts(connection: Connection, delivery_id: UUID) -> list[Mapping[str, Any]]:
    """The attempts of one delivery, in order."""
    table = AttemptRow.__table__
    statement = select(table).where(table.c.delivery_id == delivery_id).order_by(table.c.number)
    return [dict(row) for row in connection.execute(statement).mappings()]


def alerts(connection: Connection) -> list[Mapping[str, Any]]:
    """All alerts, in order."""
    table = AlertRow.__table__
    return [dict(row) for row in connection.execute(select(table).order_by(table.c.id)).mappings()]


def database_now(connection: Connection) -> Any:
    """Database time."""
    return connection.execute(text("SELECT clock_timestamp()")).scalar_one()


def add_alert(connection: Connection, **values: Any) -> int:
    """An alert that waits to be sent; returns its id."""
    return connection.execute(insert(AlertRow).values(values).returning(AlertRow.id)).scalar_one()


def mark_alert_sent(connection: Connection, alert_id: int) -> None:
    """Let an alert have reached the operator."""
    connection.execute(
        update(AlertRow)
        .where(AlertRow.id == alert_id)
        .values(sent_at=text("clock_timestamp()"), receipt="1")
    )


def insisting(connection: Connection, act: Callable[[Connection], Result]) -> Result:
    """What `act` does in a transaction, begun again where a lock is not to be had within a moment.

    As workers do it; to be called where nothing is uncommitted yet.
    """
    while True:
        try:
            return act(connection)
        except DBAPIError as trouble:
            connection.rollback()
            if not is_lock_timeout(trouble):
                raise


def announce(broker: Broker, delivery_id: UUID) -> bool:
    """Send a delivery's own message."""
    return broker.announce([Announcement(delivery_id, delivery_id, "AAPL", "tests")])
