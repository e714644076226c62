"""A signal that comes again: what stands of it in the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.errors import IdempotencyConflict

__all__ = ["DeliveryView", "NewSignal", "Stored", "identities", "pending_among", "standing"]


@dataclass(frozen=True, slots=True)
class NewSignal:
    """A signal to store: its bytes as they go out, and the labels that operators may see."""

    id: UUID
    key: str
    body: bytes = field(repr=False)
    instrument: str
    side: str
    action: str
    expires_at: datetime | None
    confidence: Decimal | None = field(default=None, repr=False)
    """For the endpoints' filters only; it is not stored by itself."""


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery as the producer sees it: its id is the idempotency key on the wire."""

    delivery_id: UUID
    endpoint: str
    status: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A signal in the outbox with its deliveries, by endpoint; duplicate: it was there before."""

    signal_id: UUID
    deliveries: tuple[DeliveryView, ...]
    duplicate: bool


_STANDING = text("""
SELECT given.position, signals.id AS signal_id, signals.body = given.body AS same_body,
    signals.producer_id = :producer_id AND signals.idempotency_key = given.key AS same_key,
    deliveries.id AS delivery_id, endpoints.name, deliveries.status
FROM unnest(CAST(:ids AS uuid[]), CAST(:keys AS text[]), CAST(:bodies AS bytea[]))
    WITH ORDINALITY AS given (id, key, body, position)
JOIN LATERAL (
    SELECT id FROM signalpost.signals WHERE id = given.id
    UNION
    SELECT id FROM signalpost.signals
    WHERE producer_id = :producer_id AND idempotency_key = given.key
) AS found ON true
JOIN signalpost.signals ON signals.id = found.id
LEFT JOIN signalpost.deliveries ON deliveries.signal_id = signals.id
LEFT JOIN signalpost.endpoints ON endpoints.id = deliveries.endpoint_id
ORDER BY given.position, endpoints.name
""")


_PENDING = text("""
SELECT id FROM signalpost.deliveries
WHERE id = ANY(CAST(:ids AS uuid[])) AND status = 'pending'
""")


def standing(conn: Connection, producer_id: str, signals: Sequence[NewSignal]) -> dict[str, Stored]:
    """What stands in the outbox of these signals, by key; those that are new are left out.

    Raises IdempotencyConflict where a key or an id is known with something else.
    """
    parameters = {"producer_id": producer_id, **identities(signals)}
    found: dict[str, list[DeliveryView]] = {}
    for row in conn.execute(_STANDING, parameters):
        signal = signals[row.position - 1]
        if not row.same_key:
            raise IdempotencyConflict(
                f"the id {row.signal_id} is known under another key or of another producer; "
                "give a new signal an id of its own"
            )
        if not row.same_body:
            raise IdempotencyConflict(
                f"the key {signal.key!r} of producer {producer_id} is known with another "
                f"body (signal {row.signal_id}); use a new key for a new signal"
            )
        deliveries = found.setdefault(signal.key, [])
        if row.delivery_id is not None:
            deliveries.append(DeliveryView(row.delivery_id, row.name, row.status))
    return {
        signal.key: Stored(signal.id, tuple(found[signal.key]), duplicate=True)
        for signal in signals
        if signal.key in found
    }


def pending_among(conn: Connection, delivery_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the deliveries that are there, committed, and still to be sent."""
    return set(conn.scalars(_PENDING, {"ids": list(delivery_ids)}))


def identities(signals: Sequence[NewSignal]) -> dict[str, Any]:
    """The statement parameters that tell signals apart, each a list."""
    return {
        "ids": [signal.id for signal in signals],
        "keys": [signal.key for signal in signals],
        "bodies": [signal.body for signal in signals],
    }
