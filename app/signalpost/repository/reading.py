"""What operators read of deliveries: lists, one by its id, and where they stand.

Lists hold labels only (ids, instrument, side, action, endpoint); no query here reads a body or a
secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.lifecycle import Status
from signalpost.repository.selecting import Selection, conditions

__all__ = [
    "LINE",
    "TABLES",
    "DeliveryLine",
    "database_time",
    "deliveries_of",
    "find_deliveries",
    "line_of",
    "list_deliveries",
    "schema_revision",
    "signal_of",
    "statuses_of",
]


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """A delivery as lists show it."""

    delivery_id: UUID
    signal_id: UUID
    endpoint: str
    instrument: str
    side: str
    action: str
    status: Status
    reason: str | None
    attempts: int
    created_at: datetime
    next_attempt_at: datetime | None
    expires_at: datetime | None
    finished_at: datetime | None


# Of every query that tells of deliveries, the story of one included.
LINE = """d.id, d.signal_id, e.name AS endpoint, s.instrument, s.side, s.action, d.status,
    d.reason, d.attempts, d.created_at, d.next_attempt_at, d.expires_at, d.finished_at"""

_OLDER = """(d.created_at, d.id) <
    (SELECT c.created_at, c.id FROM signalpost.deliveries c WHERE c.id = CAST(:before AS uuid))"""

TABLES = """signalpost.deliveries d
JOIN signalpost.signals s ON s.id = d.signal_id
JOIN signalpost.endpoints e ON e.id = d.endpoint_id"""


def list_deliveries(
    conn: Connection,
    selection: Selection = Selection(),  # noqa: B008 - it is frozen
    *,
    before: UUID | None = None,
    limit: int = 50,
) -> list[DeliveryLine]:
    """The newest deliveries first, at most `limit`.

    Args:
        conn: in a transaction of the caller's.
        selection: only what it means; an empty one means all.
        before: only those older than this delivery: the last of the page before.
        limit: how many at most.
    """
    written, values = conditions(selection)
    if before is not None:
        written.append(_OLDER)
        values["before"] = before
    where = " AND ".join(written or ["true"])
    statement = (
        f"SELECT {LINE} FROM {TABLES} WHERE {where} "
        "ORDER BY d.created_at DESC, d.id DESC LIMIT :limit"
    )
    return [line_of(row) for row in conn.execute(text(statement), {**values, "limit": limit})]


def find_deliveries(conn: Connection, low: UUID, high: UUID, *, limit: int = 20) -> list[UUID]:
    """The ids of deliveries whose own id, or whose signal's id, lies from `low` to `high`.

    A range, because a prefix of an id is one, and both indexes can answer it.
    """
    statement = text("""
        (SELECT id, created_at FROM signalpost.deliveries
         WHERE id BETWEEN CAST(:low AS uuid) AND CAST(:high AS uuid) LIMIT :limit)
        UNION
        (SELECT id, created_at FROM signalpost.deliveries
         WHERE signal_id BETWEEN CAST(:low AS uuid) AND CAST(:high AS uuid) LIMIT :limit)
        ORDER BY created_at, id LIMIT :limit""")
    rows = conn.execute(statement, {"low": low, "high": high, "limit": limit})
    return [row.id for row in rows]


def deliveries_of(conn: Connection, signal_id: UUID) -> list[UUID]:
    """The ids of a signal's deliveries, of all endpoints."""
    statement = text("""SELECT id FROM signalpost.deliveries
        WHERE signal_id = CAST(:signal_id AS uuid) ORDER BY created_at, id""")
    return list(conn.execute(statement, {"signal_id": signal_id}).scalars())


def signal_of(conn: Connection, delivery_id: UUID) -> UUID | None:
    """The signal that a delivery is of, or None where there is no such delivery."""
    statement = text(
        "SELECT signal_id FROM signalpost.deliveries WHERE id = CAST(:delivery_id AS uuid)"
    )
    found: UUID | None = conn.scalar(statement, {"delivery_id": delivery_id})
    return found


def database_time(conn: Connection) -> datetime:
    """The time of the database, by which ages are told."""
    moment: datetime = conn.execute(text("SELECT statement_timestamp()")).scalar_one()
    return moment


def schema_revision(conn: Connection) -> str | None:
    """The migration that the tables are at; None where there are none."""
    table = "signalpost.alembic_version"
    if not conn.scalar(text("SELECT to_regclass(:table) IS NOT NULL"), {"table": table}):
        return None
    revision: str | None = conn.scalar(text(f"SELECT version_num FROM {table}"))
    return revision


def statuses_of(conn: Connection, delivery_ids: Sequence[UUID]) -> dict[UUID, Status]:
    """Where these deliveries stand; one that is not there any more is left out."""
    rows = conn.execute(
        text("SELECT id, status FROM signalpost.deliveries WHERE id = ANY(CAST(:ids AS uuid[]))"),
        {"ids": list(delivery_ids)},
    )
    return {row.id: Status(row.status) for row in rows}


def line_of(row: Row[Any]) -> DeliveryLine:
    """A row of the LINE columns as a delivery."""
    return DeliveryLine(
        delivery_id=row.id,
        signal_id=row.signal_id,
        endpoint=row.endpoint,
        instrument=row.instrument,
        side=row.side,
        action=row.action,
        status=Status(row.status),
        reason=row.reason,
        attempts=row.attempts,
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at,
        expires_at=row.expires_at,
        finished_at=row.finished_at,
    )
