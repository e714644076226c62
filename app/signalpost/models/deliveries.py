"""Signals, their deliveries and attempts, and the workers that make them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from signalpost.models.base import NOW, Base
from signalpost.models.endpoints import EndpointRow

__all__ = ["AttemptRow", "DeliveryRow", "SignalRow", "WorkerRow"]

_READY = "status = 'pending' AND held IS NULL AND NOT parked"
_STATUSES = "'pending', 'sending', 'delivered', 'dead', 'expired', 'cancelled', 'superseded'"


class SignalRow(Base):
    """One trading instruction: its bytes as they go out, and the labels that operators may see."""

    __tablename__ = "signals"
    __table_args__ = (
        UniqueConstraint("producer_id", "idempotency_key"),
        Index("ix_signals_created", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    producer_id: Mapped[str]
    idempotency_key: Mapped[str]
    body: Mapped[bytes]
    instrument: Mapped[str]
    side: Mapped[str]
    action: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class WorkerRow(Base):
    """One start of an engine; alive while ``renewed_at`` is fresh."""

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    renewed_at: Mapped[datetime] = mapped_column(server_default=NOW)
    stopped_at: Mapped[datetime | None]


class DeliveryRow(Base):
    """One signal to one endpoint: the outbox row; its id is the idempotency key on the wire."""

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("signal_id", "endpoint_id"),
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        CheckConstraint("(status = 'sending') = (claim_id IS NOT NULL)", name="claimed"),
        CheckConstraint(
            "wanted_end IS NULL OR "
            "(status = 'sending' AND wanted_end IN ('cancelled', 'superseded'))",
            name="wanted_end",
        ),
        CheckConstraint("held IN ('new', 'behind', 'superseding')", name="held"),
        Index(
            "ix_deliveries_due",
            "endpoint_id",
            "priority",
            "next_attempt_at",
            postgresql_where=text(_READY),
        ),
        Index(
            "ix_deliveries_live",
            "endpoint_id",
            "ordering_key",
            "position",
            postgresql_where=text("status IN ('pending', 'sending')"),
        ),
        Index(
            "uq_deliveries_head",
            "endpoint_id",
            "ordering_key",
            unique=True,
            postgresql_where=text(
                "ordered AND (status = 'sending' OR (status = 'pending' AND held IS NULL))"
            ),
        ),
        Index(
            "ix_deliveries_unplaced",
            "held",
            "position",
            postgresql_where=text("status = 'pending' AND held IN ('new', 'superseding')"),
        ),
        Index(
            "ix_deliveries_parked",
            "position",
            postgresql_where=text("status = 'pending' AND parked"),
        ),
        Index(
            "ix_deliveries_supersede",
            "endpoint_id",
            "supersede_key",
            postgresql_where=text("supersede_key IS NOT NULL AND status IN ('pending', 'sending')"),
        ),
        Index(
            "ix_deliveries_superseders",
            "endpoint_id",
            "supersede_key",
            "position",
            postgresql_where=text("supersede_key IS NOT NULL"),
        ),
        Index("ix_deliveries_expiring", "expires_at", postgresql_where=text("status = 'pending'")),
        Index(
            "ix_deliveries_claims",
            "endpoint_id",
            "worker_id",
            postgresql_where=text("status = 'sending'"),
        ),
        Index(
            "ix_deliveries_dead_letters",
            "finished_at",
            postgresql_where=text("status IN ('dead', 'expired')"),
        ),
        Index(
            "ix_deliveries_finished",
            "finished_at",
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
        Index("ix_deliveries_created", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    signal_id: Mapped[UUID] = mapped_column(ForeignKey(SignalRow.id))
    endpoint_id: Mapped[int] = mapped_column(ForeignKey(EndpointRow.id))
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    next_attempt_at: Mapped[datetime | None] = mapped_column(server_default=NOW)
    expires_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """The number of the last claim; only ever grows."""
    spent: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """Counted attempts since enqueue or the last replay: the retry budget used."""
    maybe_received: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """An earlier attempt wrote request bytes and ended without proof of refusal."""
    replays: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    claim_id: Mapped[UUID | None]
    worker_id: Mapped[UUID | None]
    """No foreign key: its check would lock the worker's row once per claim."""
    claimed_at: Mapped[datetime | None]
    wanted_end: Mapped[str | None]
    """Withdrawn while an attempt is under way: it ends so, unless that attempt is accepted."""

    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    """1: the exit lane."""
    ordered: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """Its endpoint was an ordered one when it was enqueued."""
    ordering_key: Mapped[str] = mapped_column(server_default=text("''"))
    supersede_key: Mapped[str | None]
    position: Mapped[int] = mapped_column(
        BigInteger, server_default=text("(nextval('signalpost.positions'::regclass) << 24)")
    )
    """The order of enqueueing."""
    sequence: Mapped[int | None] = mapped_column(BigInteger)
    """Ordered only: its number within its key, given at its first claim."""
    held: Mapped[str | None]
    """Why a pending one may not be claimed: `new` (ordered, its place not yet decided), `behind`
    another of its key, or `superseding` one that is still under way."""
    parked: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """A claim met it while its producer or instrument was paused."""


class AttemptRow(Base):
    """One try to POST a delivery; append-only, completed at most once more by late news."""

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("claim_id"),)

    delivery_id: Mapped[UUID] = mapped_column(
        ForeignKey(DeliveryRow.id, ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    claim_id: Mapped[UUID]
    worker_id: Mapped[UUID]
    started_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = mapped_column(server_default=NOW)
    duration_seconds: Mapped[float | None] = mapped_column(Float)
    phase: Mapped[str]
    outcome: Mapped[str]
    status_code: Mapped[int | None] = mapped_column(Integer)
    failure: Mapped[str | None]
    detail: Mapped[str] = mapped_column(server_default=text("''"))
    counted: Mapped[bool] = mapped_column(Boolean)
    late: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """The news came after the claim had been taken back or had been replaced."""
    excerpt: Mapped[bytes] = mapped_column(server_default=text("''::bytea"))
