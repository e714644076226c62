"""What operators read of deliveries: lists, the story of one, and how many have ended.

Lists hold labels only (ids, instrument, side, action, endpoint); no query here reads a body or a
secret but `signal_body`, which is asked for by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.lifecycle import Status

__all__ = [
    "AlertLine",
    "AttemptLine",
    "DeliveryLine",
    "Story",
    "database_time",
    "delivery_story",
    "find_deliveries",
    "list_deliveries",
    "schema_revision",
    "signal_body",
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


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One attempt of a delivery, as it was recorded."""

    number: int
    worker_id: UUID
    worker: str | None
    started_at: datetime
    recorded_at: datetime
    duration_seconds: float | None
    phase: str
    outcome: str
    status_code: int | None
    failure: str | None
    detail: str
    counted: bool
    late: bool
    excerpt: bytes


@dataclass(frozen=True, slots=True)
class AlertLine:
    """One alert about a delivery; `receipt` is the message's id where it has arrived."""

    alert_id: int
    kind: str
    created_at: datetime
    next_attempt_at: datetime
    tries: int
    error: str | None
    sent_at: datetime | None
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Story:
    """Everything about one delivery but its body; `as_of` is database time."""

    delivery: DeliveryLine
    as_of: datetime
    url: str
    producer_id: str
    enqueued_at: datetime
    spent: int
    max_retries: int | None
    maybe_received: bool
    replays: int
    claimed_at: datetime | None
    attempts: tuple[AttemptLine, ...]
    alerts: tuple[AlertLine, ...]


_LINE = """d.id, d.signal_id, e.name AS endpoint, s.instrument, s.side, s.action, d.status,
    d.reason, d.attempts, d.created_at, d.next_attempt_at, d.expires_at, d.finished_at"""

_OLDER = """(d.created_at, d.id) <
    (SELECT c.created_at, c.id FROM signalpost.deliveries c WHERE c.id = CAST(:before AS uuid))"""

_TABLES = """signalpost.deliveries d
JOIN signalpost.signals s ON s.id = d.signal_id
JOIN signalpost.endpoints e ON e.id = d.endpoint_id"""

_STORY = text(
    f"SELECT {_LINE}, statement_timestamp() AS as_of, e.url, s.producer_id, "
    "s.created_at AS enqueued_at, d.spent, e.max_retries, d.maybe_received, d.replays, "
    f"d.claimed_at FROM {_TABLES} WHERE d.id = CAST(:id AS uuid)"
)


def list_deliveries(
    conn: Connection,
    *,
    statuses: Sequence[Status] = (),
    endpoint: str | None = None,
    instrument: str | None = None,
    since: datetime | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> list[DeliveryLine]:
    """The newest deliveries first, at most `limit`.

    Args:
        conn: in a transaction of the caller's.
        statuses: only these; none means all.
        endpoint: only of the endpoint of this name.
        instrument: only of signals for this instrument.
        since: only those enqueued at this moment (aware) or later.
        before: only those older than this delivery: the last of the page before.
        limit: how many at most.
    """
    conditions = ["true"]
    values: dict[str, Any] = {"limit": limit}
    if statuses:
        # Literals, or the partial indexes could not be used.
        named = ", ".join(f"'{Status(status).value}'" for status in statuses)
        conditions.append(f"d.status IN ({named})")
    for condition, name, value in (
        ("e.name = :endpoint", "endpoint", endpoint),
        ("s.instrument = :instrument", "instrument", instrument),
        ("d.created_at >= CAST(:since AS timestamptz)", "since", since),
        (_OLDER, "before", before),
    ):
        if value is not None:
            conditions.append(condition)
            values[name] = value
    where = " AND ".join(conditions)
    statement = (
        f"SELECT {_LINE} FROM {_TABLES} WHERE {where} "
        "ORDER BY d.created_at DESC, d.id DESC LIMIT :limit"
    )
    return [_line(row) for row in conn.execute(text(statement), values)]


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


def delivery_story(conn: Connection, delivery_id: UUID) -> Story | None:
    """The whole story of one delivery, or None where there is none of this id."""
    row = conn.execute(_STORY, {"id": delivery_id}).one_or_none()
    if row is None:
        return None
    return Story(
        delivery=_line(row),
        as_of=row.as_of,
        url=row.url,
        producer_id=row.producer_id,
        enqueued_at=row.enqueued_at,
        spent=row.spent,
        max_retries=row.max_retries,
        maybe_received=row.maybe_received,
        replays=row.replays,
        claimed_at=row.claimed_at,
        attempts=_attempts(conn, delivery_id),
        alerts=_alerts(conn, delivery_id),
    )


def signal_body(conn: Connection, signal_id: UUID) -> bytes | None:
    """The exact bytes of a signal's body: private, so only for who asks to see them."""
    body: bytes | None = conn.scalar(
        text("SELECT body FROM signalpost.signals WHERE id = CAST(:id AS uuid)"),
        {"id": signal_id},
    )
    return body


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


def _attempts(conn: Connection, delivery_id: UUID) -> tuple[AttemptLine, ...]:
    rows = conn.execute(
        text("""SELECT a.number, a.worker_id, w.name AS worker, a.started_at, a.recorded_at,
            a.duration_seconds, a.phase, a.outcome, a.status_code, a.failure, a.detail, a.counted,
            a.late, a.excerpt
        FROM signalpost.attempts a LEFT JOIN signalpost.workers w ON w.id = a.worker_id
        WHERE a.delivery_id = CAST(:id AS uuid) ORDER BY a.number"""),
        {"id": delivery_id},
    )
    return tuple(AttemptLine(**row) for row in rows.mappings())


def _alerts(conn: Connection, delivery_id: UUID) -> tuple[AlertLine, ...]:
    rows = conn.execute(
        text("""SELECT id AS alert_id, kind, created_at, next_attempt_at, tries, error, sent_at,
            receipt
        FROM signalpost.alerts WHERE delivery_id = CAST(:id AS uuid) ORDER BY id"""),
        {"id": delivery_id},
    )
    return tuple(AlertLine(**row) for row in rows.mappings())


def _line(row: Row[Any]) -> DeliveryLine:
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
