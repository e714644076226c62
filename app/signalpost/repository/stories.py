"""The story of one delivery: everything that was done about it, and by whom.

A body is read by `signal_body` alone, which is asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.core.lifecycle import Status
from signalpost.repository.auditing import AuditLine, list_audit
from signalpost.repository.hindrances import hindrance_of
from signalpost.repository.reading import LINE, TABLES, DeliveryLine, line_of

__all__ = ["AlertLine", "AttemptLine", "Story", "delivery_story", "signal_body"]


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
    wanted_end: Status | None
    attempts: tuple[AttemptLine, ...]
    alerts: tuple[AlertLine, ...]
    trail: tuple[AuditLine, ...]
    """What people did to it: replays and cancellations."""
    cause: str | None = None
    """What a pending one waits for; see repository/hindrances.py."""
    blocked_by: UUID | None = None
    """The dead delivery that it waits behind."""


_STORY = text(
    f"SELECT {LINE}, statement_timestamp() AS as_of, e.url, s.producer_id, "
    "s.created_at AS enqueued_at, d.spent, e.max_retries, d.maybe_received, d.replays, "
    f"d.claimed_at, d.wanted_end FROM {TABLES} WHERE d.id = CAST(:id AS uuid)"
)


def delivery_story(conn: Connection, delivery_id: UUID) -> Story | None:
    """The whole story of one delivery, or None where there is none of this id."""
    row = conn.execute(_STORY, {"id": delivery_id}).one_or_none()
    if row is None:
        return None
    cause, blocked_by = hindrance_of(conn, delivery_id) or (None, None)
    return Story(
        delivery=line_of(row),
        as_of=row.as_of,
        url=row.url,
        producer_id=row.producer_id,
        enqueued_at=row.enqueued_at,
        spent=row.spent,
        max_retries=row.max_retries,
        maybe_received=row.maybe_received,
        replays=row.replays,
        claimed_at=row.claimed_at,
        wanted_end=Status(row.wanted_end) if row.wanted_end else None,
        attempts=_attempts(conn, delivery_id),
        alerts=_alerts(conn, delivery_id),
        trail=tuple(list_audit(conn, delivery_id=delivery_id)[::-1]),
        cause=cause,
        blocked_by=blocked_by,
    )


def signal_body(conn: Connection, signal_id: UUID) -> bytes | None:
    """The exact bytes of a signal's body: private, so only for who asks to see them."""
    body: bytes | None = conn.scalar(
        text("SELECT body FROM signalpost.signals WHERE id = CAST(:id AS uuid)"),
        {"id": signal_id},
    )
    return body


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
