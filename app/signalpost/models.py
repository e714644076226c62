"""The tables of the outbox, all in schema ``signalpost``: a strategy may share its database.

Statuses are plain text with a check, because the partial indexes below name them as literals: a
claim must never read a finished row (with a bound parameter PostgreSQL cannot use such an index).
Every moment is ``timestamptz`` in database time.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Sequence,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA = "signalpost"

_NOW = text("clock_timestamp()")


class Base(DeclarativeBase):
    """Declarative root; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        },
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute
        datetime: DateTime(timezone=True),
        str: Text,
        bytes: LargeBinary,
        UUID: Uuid,
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
        Decimal: Numeric,
    }


POSITIONS = Sequence("positions", schema=SCHEMA, metadata=Base.metadata)
"""Numbers the calls of enqueue; a delivery's position is its call's number with room for 2**24
signals of the same call below it."""


class EndpointRow(Base):
    """A receiver's URL with its secret (encrypted) and its policy; NULL policy: the setting's."""

    __tablename__ = "endpoints"
    __table_args__ = (
        Index(
            "uq_endpoints_name_live",
            "name",
            unique=True,
            postgresql_where=text("removed_at IS NULL"),
        ),
        CheckConstraint("on_unknown IN ('retry', 'stop')", name="on_unknown"),
        CheckConstraint(
            "(previous_secret_ciphertext IS NULL) = (previous_secret_until IS NULL)",
            name="previous_secret",
        ),
        CheckConstraint("on_dead IN ('skip', 'block')", name="on_dead"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    url: Mapped[str]
    secret_ciphertext: Mapped[bytes]
    secret_version: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    timeout_seconds: Mapped[float | None] = mapped_column(Float)
    max_retries: Mapped[int | None] = mapped_column(Integer)
    retry_delay_seconds: Mapped[float | None] = mapped_column(Float)
    ttl_seconds: Mapped[float | None] = mapped_column(Float)
    on_unknown: Mapped[str] = mapped_column(server_default=text("'retry'"))
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    removed_at: Mapped[datetime | None]
    previous_secret_ciphertext: Mapped[bytes | None]
    """The secret of the version before, while it is being replaced."""
    previous_secret_until: Mapped[datetime | None]
    """From then on only the current secret signs."""

    # The filter; NULL takes everything.
    instruments: Mapped[list[str] | None]
    sides: Mapped[list[str] | None]
    actions: Mapped[list[str] | None]
    producers: Mapped[list[str] | None]
    min_confidence: Mapped[Decimal | None]

    ordered: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    on_dead: Mapped[str] = mapped_column(server_default=text("'skip'"))
    """What a dead delivery means for its successors on an ordered endpoint."""
    max_in_flight: Mapped[int | None] = mapped_column(Integer)
    rate_per_second: Mapped[float | None] = mapped_column(Float)
    headers: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))

    # What workers write: the rate's next slot, the breaker, and since when a backlog is let out.
    rate_next_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failing_since: Mapped[datetime | None]
    opened_at: Mapped[datetime | None]
    """Since when the breaker is open; NULL: it is closed."""
    probe_at: Mapped[datetime | None]
    """While it is open: from when on one delivery at a time may try."""
    probes: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    released_at: Mapped[datetime | None]
    """When a backlog was let go, by a closing breaker or a resume: it starts slowly."""


class SignalRow(Base):
    """One trading instruction: its bytes as they go out, and the labels that operators may see."""

    __tablename__ = "signals"
    __table_args__ = (UniqueConstraint("producer_id", "idempotency_key"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    producer_id: Mapped[str]
    idempotency_key: Mapped[str]
    body: Mapped[bytes]
    instrument: Mapped[str]
    side: Mapped[str]
    action: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class WorkerRow(Base):
    """One start of an engine; alive while ``renewed_at`` is fresh."""

    __tablename__ = "workers"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    renewed_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    stopped_at: Mapped[datetime | None]


_READY = "status = 'pending' AND held IS NULL AND NOT parked"
_STATUSES = "'pending', 'sending', 'delivered', 'dead', 'expired', 'cancelled', 'superseded'"


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
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    next_attempt_at: Mapped[datetime | None] = mapped_column(server_default=_NOW)
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


class OrderingRow(Base):
    """One ordering key of one ordered endpoint; its lock decides who may promote."""

    __tablename__ = "orderings"

    endpoint_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(EndpointRow.id), primary_key=True
    )
    ordering_key: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """The last number given."""
    blocked_by: Mapped[UUID | None]
    """A dead delivery that holds up its successors, while it is dead."""


class PauseRow(Base):
    """Something that a person has paused; deleted by the resume."""

    __tablename__ = "pauses"
    __table_args__ = (
        CheckConstraint("scope IN ('all', 'producer', 'instrument', 'endpoint')", name="scope"),
        CheckConstraint("(scope = 'endpoint') = (endpoint_id IS NOT NULL)", name="endpoint"),
        Index(
            "uq_pauses_scope",
            "scope",
            "value",
            "endpoint_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    scope: Mapped[str]
    value: Mapped[str] = mapped_column(server_default=text("''"))
    """The producer's id, or the instrument's pattern."""
    endpoint_id: Mapped[int | None] = mapped_column(ForeignKey(EndpointRow.id))
    entries_only: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    paused_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    actor: Mapped[str]
    why: Mapped[str] = mapped_column(server_default=text("''"))


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
    recorded_at: Mapped[datetime] = mapped_column(server_default=_NOW)
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


class AlertRow(Base):
    """A message to the operator, written with what it tells of; ``receipt`` proves its arrival."""

    __tablename__ = "alerts"
    __table_args__ = (
        Index("ix_alerts_unsent", "next_attempt_at", postgresql_where=text("sent_at IS NULL")),
        Index("ix_alerts_delivery_id", "delivery_id"),
        Index(
            "uq_alerts_open_notice",
            "kind",
            "endpoint_id",
            "subject",
            unique=True,
            postgresql_where=text("sent_at IS NULL AND delivery_id IS NULL"),
            postgresql_nulls_not_distinct=True,
        ),
        Index("ix_alerts_kind_sent", "kind", "sent_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[str]
    delivery_id: Mapped[UUID | None] = mapped_column(ForeignKey(DeliveryRow.id, ondelete="CASCADE"))
    endpoint_id: Mapped[int | None] = mapped_column(ForeignKey(EndpointRow.id))
    subject: Mapped[str] = mapped_column(server_default=text("''"))
    """What a notice is about where that is no endpoint, such as a worker's name."""
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    error: Mapped[str | None]
    sent_at: Mapped[datetime | None]
    receipt: Mapped[str | None]


class AlertPaceRow(Base):
    """The one row by which all ops workers keep one pace: it is locked to begin a message."""

    __tablename__ = "alert_pace"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, server_default=text("1"))
    silent_until: Mapped[datetime | None]
    """Telegram asked for a pause until then."""
    begun: Mapped[list[datetime]] = mapped_column(
        ARRAY(DateTime(timezone=True)), server_default=text("'{}'::timestamptz[]")
    )
    """When the messages of the last minute were begun, the oldest first."""


class TroubleRow(Base):
    """Something that is not well and lasts; told when it begins and when it has ended."""

    __tablename__ = "troubles"

    kind: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    """Who is in trouble: an endpoint's id, a worker's, or nothing where there is only one."""
    endpoint_id: Mapped[int | None] = mapped_column(ForeignKey(EndpointRow.id))
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    began_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    told_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    seen_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    """When it was last found to be so."""


class AuditRow(Base):
    """An act of a person (or of the settings): who, when, what, why, before and after."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    why: Mapped[str] = mapped_column(server_default=text("''"))
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
