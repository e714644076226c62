"""Alerts as a person asks for them: listed, and told once more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.repository.auditing import Act, leave_trail

__all__ = ["AlertLine", "Resent", "list_alerts", "resend"]


@dataclass(frozen=True, slots=True)
class AlertLine:
    """One alert; `receipt` is that of its message, the same for all that the message covered.

    `status` is the delivery's now; `details` are the labels of a notice.
    """

    alert_id: int
    kind: str
    created_at: datetime
    sent_at: datetime | None
    receipt: str | None
    tries: int
    next_attempt_at: datetime
    error: str | None
    delivery_id: UUID | None
    instrument: str | None
    side: str | None
    status: str | None
    endpoint: str | None
    subject: str
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resent:
    """One alert that was asked for again, or the refusal."""

    alert_id: int
    kind: str | None = None
    receipt: str | None = None
    """Of the message before."""
    refusal: str | None = None


_LIST = text("""
SELECT a.id AS alert_id, a.kind, a.created_at, a.sent_at, a.receipt, a.tries, a.next_attempt_at,
    a.error, a.delivery_id, s.instrument, s.side, d.status, e.name AS endpoint, a.subject, a.details
FROM signalpost.alerts a
LEFT JOIN signalpost.deliveries d ON d.id = a.delivery_id
LEFT JOIN signalpost.signals s ON s.id = d.signal_id
LEFT JOIN signalpost.endpoints e ON e.id = COALESCE(a.endpoint_id, d.endpoint_id)
WHERE (NOT :unsent OR a.sent_at IS NULL)
  AND (CAST(:kinds AS text[]) IS NULL OR a.kind = ANY(CAST(:kinds AS text[])))
  AND (CAST(:since AS timestamptz) IS NULL OR a.created_at >= :since)
ORDER BY a.id DESC
LIMIT :limit
""")

_LOCK = text("""
SELECT id, kind, sent_at, receipt FROM signalpost.alerts
WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR UPDATE
""")

_AGAIN = text("""
UPDATE signalpost.alerts a
SET sent_at = NULL, receipt = NULL, error = NULL, tries = 0, next_attempt_at = statement_timestamp()
WHERE a.id = :id AND (a.delivery_id IS NOT NULL OR NOT EXISTS (
    SELECT FROM signalpost.alerts waiting
    WHERE waiting.sent_at IS NULL AND waiting.delivery_id IS NULL AND waiting.kind = a.kind
      AND waiting.endpoint_id IS NOT DISTINCT FROM a.endpoint_id
      AND waiting.subject = a.subject))
""")


def list_alerts(
    conn: Connection,
    *,
    unsent: bool = False,
    kinds: Sequence[str] = (),
    since: datetime | None = None,
    limit: int = 200,
) -> list[AlertLine]:
    """Alerts, the newest first: only unsent ones, only some kinds, only those since a moment."""
    values = {"unsent": unsent, "kinds": list(kinds) or None, "since": since, "limit": limit}
    return [AlertLine(**row) for row in conn.execute(_LIST, values).mappings()]


def resend(
    conn: Connection, alert_ids: Sequence[int], *, actor: str, quiet: Collection[str] = ()
) -> list[Resent]:
    """Let alerts that were sent be sent once more, in the caller's transaction, audited.

    Args:
        conn: in a transaction that the caller commits.
        alert_ids: which ones; the answer keeps their order.
        actor: who asks, for the audit trail.
        quiet: kinds that would not be sent.
    """
    wanted = list(dict.fromkeys(alert_ids))
    found = {row.id: row for row in conn.execute(_LOCK, {"ids": wanted})}
    answers = []
    for alert_id in wanted:
        row = found.get(alert_id)
        refusal = None
        if row is None:
            refusal = "there is no alert of this id"
        elif row.sent_at is None:
            refusal = "it has not been sent yet, and is tried until it is"
        elif row.kind in quiet:
            refusal = f"{row.kind} is among ALERT_QUIET_KINDS"
        elif conn.execute(_AGAIN, {"id": alert_id}).rowcount != 1:
            refusal = "the same notice waits to be sent already"
        else:
            before = {"receipt": row.receipt, "sent_at": row.sent_at.isoformat()}
            act = Act(f"alert {alert_id}", before, None)
            leave_trail(conn, [act], "resend", actor=actor)
        kind, receipt = (row.kind, row.receipt) if row is not None else (None, None)
        answers.append(Resent(alert_id, kind, receipt, refusal))
    return answers
