"""What a run left behind, read whole: for those who check both sides of it (the demo, tests).

Not for a system at work: nothing here is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.core.lifecycle import Status


@dataclass(frozen=True, slots=True)
class DeliveryFact:
    """One delivery as it stands."""

    delivery_id: UUID
    signal_id: UUID
    endpoint: str
    status: str
    reason: str | None
    replays: int


@dataclass(frozen=True, slots=True)
class AttemptFact:
    """One attempt: how far it got, what it meant, when it began (database time)."""

    delivery_id: UUID
    endpoint: str
    number: int
    phase: str
    outcome: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class AlertFact:
    """One alert; ``receipt`` is what the operator's channel gave back for it."""

    delivery_id: UUID | None
    kind: str
    sent_at: datetime | None
    receipt: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything of a run but the bodies."""

    signal_ids: frozenset[UUID]
    deliveries: tuple[DeliveryFact, ...]
    attempts: tuple[AttemptFact, ...]
    alerts: tuple[AlertFact, ...]

    @property
    def settled(self) -> bool:
        """Whether every delivery has reached an end and every alert its receipt."""
        return all(Status(fact.status).terminal for fact in self.deliveries) and all(
            alert.sent_at is not None for alert in self.alerts
        )


_SIGNALS = text("SELECT id FROM signalpost.signals")

_DELIVERIES = text("""
SELECT d.id AS delivery_id, d.signal_id, e.name AS endpoint, d.status, d.reason, d.replays
FROM signalpost.deliveries d JOIN signalpost.endpoints e ON e.id = d.endpoint_id
ORDER BY d.created_at, d.id
""")

_ATTEMPTS = text("""
SELECT a.delivery_id, e.name AS endpoint, a.number, a.phase, a.outcome, a.started_at
FROM signalpost.attempts a
JOIN signalpost.deliveries d ON d.id = a.delivery_id
JOIN signalpost.endpoints e ON e.id = d.endpoint_id
ORDER BY a.started_at, a.number
""")

_ALERTS = text("SELECT delivery_id, kind, sent_at, receipt FROM signalpost.alerts ORDER BY id")

_BODIES = text("SELECT body FROM signalpost.signals")


def gather(connection: Connection) -> Evidence:
    """Read all signals' ids, deliveries, attempts and alerts."""
    return Evidence(
        frozenset(connection.execute(_SIGNALS).scalars()),
        tuple(DeliveryFact(**row) for row in connection.execute(_DELIVERIES).mappings()),
        tuple(AttemptFact(**row) for row in connection.execute(_ATTEMPTS).mappings()),
        tuple(AlertFact(**row) for row in connection.execute(_ALERTS).mappings()),
    )


def bodies(connection: Connection) -> list[bytes]:
    """Read the exact bodies of all signals; they hold what must never be shown."""
    return [bytes(body) for body in connection.execute(_BODIES).scalars()]
