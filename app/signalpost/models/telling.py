"""What people are told, and what they did: alerts, troubles, audit."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from signalpost.models.base import NOW, Base
from signalpost.models.deliveries import DeliveryRow
from signalpost.models.endpoints import EndpointRow

__all__ = ["AlertPaceRow", "AlertRow", "AuditRow", "TroubleRow"]


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
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=NOW)
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
    began_at: Mapped[datetime] = mapped_column(server_default=NOW)
    told_at: Mapped[datetime] = mapped_column(server_default=NOW)
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)
    """When it was last found to be so."""


class AuditRow(Base):
    """An act of a person (or of the settings): who, when, what, why, before and after.

    A trigger of the migrations refuses to change or delete what is younger than a year.
    """

    __tablename__ = "audit"
    __table_args__ = (Index("ix_audit_subject", "subject", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    why: Mapped[str] = mapped_column(server_default=text("''"))
    before: Mapped[dict[str, Any] | None]
    after: Mapped[dict[str, Any] | None]
