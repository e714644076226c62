"""The tables of the outbox, all in schema ``signalpost``: a strategy may share its database.

Statuses are plain text with a check, because the partial indexes below name them as literals: a
claim must never read a finished row (with a bound parameter PostgreSQL cannot use such an index).
Every moment is ``timestamptz`` in database time.
"""

from __future__ import annotations

from signalpost.models.base import POSITIONS, SCHEMA, Base
from signalpost.models.deliveries import AttemptRow, DeliveryRow, SignalRow, WorkerRow
from signalpost.models.endpoints import EndpointRow, OrderingRow, PauseRow
from signalpost.models.telling import AlertPaceRow, AlertRow, AuditRow, TroubleRow

__all__ = [
    "POSITIONS",
    "SCHEMA",
    "AlertPaceRow",
    "AlertRow",
    "AttemptRow",
    "AuditRow",
    "Base",
    "DeliveryRow",
    "EndpointRow",
    "OrderingRow",
    "PauseRow",
    "SignalRow",
    "TroubleRow",
    "WorkerRow",
]
