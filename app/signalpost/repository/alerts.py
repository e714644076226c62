"""Alerts: claimed for one sending each, read with what they tell of, receipted or put off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

LEASE_SECONDS = 60.0
"""How long a claimed alert is left alone; a sender that died meanwhile costs one repeat at most."""


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """How the newest attempt of a delivery ended."""

    phase: str
    outcome: str
    status_code: int | None
    failure: str | None


@dataclass(frozen=True, slots=True)
class Letter:
    """The delivery that an alert is about, as it stands when the alert is claimed."""

    delivery_id: UUID
    signal_id: UUID
    instrument: str
    side: str
    action: str
    status: str
    reason: str | None
    attempts: int
    maybe_received: bool
    enqueued_at: datetime
    expires_at: datetime | None
    last: LastAttempt | None


@dataclass(frozen=True, slots=True)
class Notice:
    """A claimed alert with all that its text may say; nothing private is in it.

    ``tries`` counts claims and is the fencing token: only the newest claim may put the alert off.
    ``now`` is database time at the claim. ``letter`` is None where no delivery is concerned; then
    ``details`` are the labels that whoever raised it gave.
    """

    alert_id: int
    kind: str
    tries: int
    now: datetime
    endpoint: str | None
    letter: Letter | None
    details: Mapping[str, str] = field(default_factory=dict)


_NOW = "COALESCE(CAST(:now AS timestamptz), statement_timestamp())"


def _claim_sql(choice: str) -> str:
    # Pushing next_attempt_at forward is the claim: it outlives the connection, so that nothing is
    # held open while Telegram is asked, and it ends by itself.
    return f"""
WITH due AS (
    SELECT id FROM signalpost.alerts
    WHERE sent_at IS NULL AND next_attempt_at <= {_NOW} {choice}
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE signalpost.alerts a
    SET tries = a.tries + 1, next_attempt_at = {_NOW} + make_interval(secs => :lease_seconds)
    FROM due WHERE a.id = due.id
    RETURNING a.id, a.kind, a.tries, a.delivery_id, a.endpoint_id, a.details
)
SELECT claimed.id AS alert_id, claimed.kind, claimed.tries, claimed.details, {_NOW} AS now,
       e.name AS endpoint, d.id AS delivery_id, d.signal_id, s.instrument, s.side, s.action,
       d.status, d.reason, d.attempts, d.maybe_received, d.created_at AS enqueued_at, d.expires_at,
       last.phase, last.outcome, last.status_code, last.failure
FROM claimed
LEFT JOIN signalpost.deliveries d ON d.id = claimed.delivery_id
LEFT JOIN signalpost.signals s ON s.id = d.signal_id
LEFT JOIN signalpost.endpoints e ON e.id = COALESCE(claimed.endpoint_id, d.endpoint_id)
LEFT JOIN LATERAL (
    SELECT phase, outcome, status_code, failure FROM signalpost.attempts
    WHERE delivery_id = d.id ORDER BY number DESC LIMIT 1
) last ON true
"""


CLAIM_OLDEST = text(_claim_sql("ORDER BY next_attempt_at LIMIT 1"))
CLAIM_ONE = text(_claim_sql("AND id = :alert_id"))

MARK_SENT = text(f"""
UPDATE signalpost.alerts SET sent_at = {_NOW}, receipt = :receipt, error = NULL
WHERE id = :alert_id AND sent_at IS NULL
""")

PUT_OFF = text(f"""
UPDATE signalpost.alerts
SET next_attempt_at = {_NOW} + make_interval(secs => :seconds), error = :error
WHERE id = :alert_id AND tries = :tries AND sent_at IS NULL
""")


def claim_alert(
    connection: Connection,
    *,
    alert_id: int | None = None,
    lease_seconds: float = LEASE_SECONDS,
    now: datetime | None = None,
) -> Notice | None:
    """Take one due alert for ``lease_seconds``; the caller commits before it sends anything.

    Args:
        connection: in a transaction that the caller commits.
        alert_id: this alert; None takes the one that has been due for longest.
        lease_seconds: how long nobody else takes it; longer than one sending may last.
        now: database time instead of the statement's own.

    Returns:
        The alert, or None where none is due, or it is sent, or somebody else has it.
    """
    values = {"lease_seconds": lease_seconds, "now": now}
    if alert_id is None:
        row = connection.execute(CLAIM_OLDEST, values).one_or_none()
    else:
        row = connection.execute(CLAIM_ONE, {**values, "alert_id": alert_id}).one_or_none()
    return None if row is None else _notice(row)


def mark_sent(
    connection: Connection, alert_id: int, receipt: str, *, now: datetime | None = None
) -> bool:
    """Store the receipt, whoever's claim it was; tell whether it was the first."""
    values = {"alert_id": alert_id, "receipt": receipt, "now": now}
    return connection.execute(MARK_SENT, values).rowcount == 1


def put_off(
    connection: Connection,
    notice: Notice,
    *,
    seconds: float,
    error: str,
    now: datetime | None = None,
) -> bool:
    """Make a claimed alert due again in ``seconds``, with the reason why it was not sent.

    Returns:
        Whether the claim was still the newest; if not, nothing was changed.
    """
    values = {
        "alert_id": notice.alert_id,
        "tries": notice.tries,
        "seconds": seconds,
        "error": error,
        "now": now,
    }
    return connection.execute(PUT_OFF, values).rowcount == 1


def _notice(row: Row[Any]) -> Notice:
    return Notice(
        alert_id=row.alert_id,
        kind=row.kind,
        tries=row.tries,
        now=row.now,
        endpoint=row.endpoint,
        letter=None if row.delivery_id is None else _letter(row),
        details={str(name): str(value) for name, value in row.details.items()},
    )


def _letter(row: Row[Any]) -> Letter:
    last = None
    if row.outcome is not None:
        last = LastAttempt(row.phase, row.outcome, row.status_code, row.failure)
    return Letter(
        delivery_id=row.delivery_id,
        signal_id=row.signal_id,
        instrument=row.instrument,
        side=row.side,
        action=row.action,
        status=row.status,
        reason=row.reason,
        attempts=row.attempts,
        maybe_received=row.maybe_received,
        enqueued_at=row.enqueued_at,
        expires_at=row.expires_at,
        last=last,
    )
