"""Endpoints, and what holds their deliveries up: ordering keys and pauses."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from signalpost.models.base import NOW, Base

__all__ = ["EndpointRow", "OrderingRow", "PauseRow"]


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
    retry_schedule_seconds: Mapped[list[float] | None]
    """The wait before each retry, instead of a number of retries and a delay that doubles."""
    ttl_seconds: Mapped[float | None] = mapped_column(Float)
    on_unknown: Mapped[str] = mapped_column(server_default=text("'retry'"))
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
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
    paused_at: Mapped[datetime] = mapped_column(server_default=NOW)
    actor: Mapped[str]
    why: Mapped[str] = mapped_column(server_default=text("''"))
