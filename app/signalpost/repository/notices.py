"""Notices: alerts about the system itself rather than about one delivery."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection, text

# What was raised well after now is of a clock that was set back since: it mutes nothing.
_RAISE = text("""
INSERT INTO signalpost.alerts (kind, endpoint_id, subject, details)
SELECT :kind, CAST(:endpoint_id AS bigint), :subject, CAST(:details AS jsonb)
WHERE NOT EXISTS (
    SELECT FROM signalpost.alerts a
    WHERE a.kind = :kind AND a.delivery_id IS NULL
      AND a.endpoint_id IS NOT DISTINCT FROM CAST(:endpoint_id AS bigint)
      AND a.subject = :subject
      AND (a.sent_at IS NULL
           OR a.created_at > statement_timestamp() - make_interval(secs => :quiet_seconds)
              AND a.created_at <= statement_timestamp() + interval '1 minute'))
ON CONFLICT DO NOTHING
RETURNING id
""")

_LATELY = text("""
SELECT EXISTS (
    SELECT FROM signalpost.alerts
    WHERE kind = :kind AND created_at > statement_timestamp() - make_interval(secs => :seconds)
      AND created_at <= statement_timestamp() + interval '1 minute')
""")


def raise_notice(
    connection: Connection,
    *,
    kind: str,
    endpoint_id: int | None = None,
    subject: str = "",
    details: Mapping[str, str] | None = None,
    quiet_seconds: float = 3600.0,
) -> int | None:
    """Write a notice for the operator, unless the same one is open or was raised lately.

    Args:
        connection: in a transaction that the caller commits.
        kind: such as ``secret_unreadable`` or ``clock_off``.
        endpoint_id: whom it is about, if about one endpoint.
        subject: what it is about, if about something else, such as a worker's name.
        details: labels only, nothing private.
        quiet_seconds: for how long the same notice is not raised again.

    Returns:
        The alert's id, or None where it was not raised.
    """
    found: int | None = connection.execute(
        _RAISE,
        {
            "kind": kind,
            "endpoint_id": endpoint_id,
            "subject": subject,
            "details": json.dumps(dict(details or {})),
            "quiet_seconds": quiet_seconds,
        },
    ).scalar_one_or_none()
    return found


def lately(connection: Connection, *, kind: str, seconds: float) -> bool:
    """Tell whether a notice of a kind was raised in the last ``seconds``."""
    return bool(connection.execute(_LATELY, {"kind": kind, "seconds": seconds}).scalar_one())
