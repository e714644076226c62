"""Alerts: claimed in messages, read with what they tell of, receipted or put off.

One message covers all alerts of its kind that are due. Whoever begins a message locks the one row
of the pace first, so that no two senders ever hold the same alerts, and all keep one rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from signalpost.core.alerting import LOUD_KINDS, Pace, lately, may_begin
from signalpost.repository.looking import NOW
from signalpost.repository.told import FIRST, Message, read_message

LEASE_SECONDS = 60.0
"""How long claimed alerts are left alone; a sender that died meanwhile costs one repeat at most."""

MOST_AT_ONCE = 20_000
"""Alerts that one message may cover."""

ANY_DUE = text(f"""
SELECT EXISTS (SELECT FROM signalpost.alerts WHERE sent_at IS NULL AND next_attempt_at <= {NOW})
""")

# The row is locked until the claim is committed. Its time is taken when the lock is held: whoever
# waited for it must see what the other one did as past.
_LOCK_PACE = text("""
INSERT INTO signalpost.alert_pace AS pace (id) VALUES (1)
ON CONFLICT (id) DO UPDATE SET id = pace.id
RETURNING silent_until, begun, COALESCE(CAST(:now AS timestamptz), clock_timestamp()) AS now
""")

HUSH = text("""
UPDATE signalpost.alerts SET sent_at = :now, receipt = 'quiet', error = NULL
WHERE sent_at IS NULL AND delivery_id IS NULL AND kind = ANY(CAST(:kinds AS text[]))
""")

# A kind of which one alert is claimed or put off waits with all its alerts, so that they stay
# together; likewise while its window lasts.
CHOOSE_KIND = text("""
SELECT waiting.kind FROM (
    SELECT kind, min(next_attempt_at) AS due, max(next_attempt_at) > :now AS held
    FROM signalpost.alerts WHERE sent_at IS NULL GROUP BY kind
) waiting
WHERE NOT held
  AND (CAST(:alert_id AS bigint) IS NULL OR waiting.kind = (
    SELECT asked.kind FROM signalpost.alerts asked
    WHERE asked.id = :alert_id AND asked.sent_at IS NULL))
  AND COALESCE((
    SELECT told.sent_at FROM signalpost.alerts told
    WHERE told.kind = waiting.kind AND told.sent_at <= :now
    ORDER BY told.sent_at DESC LIMIT 1
  ) <= CAST(:now AS timestamptz) - make_interval(secs => :window_seconds), true)
ORDER BY waiting.kind = ANY(CAST(:loud AS text[])) DESC, waiting.due
LIMIT 1
""")

# Pushing next_attempt_at forward is the claim: it outlives the connection, so that nothing is held
# open while Telegram is asked, and it ends by itself.
CLAIM = text("""
WITH due AS MATERIALIZED (
    SELECT id FROM signalpost.alerts
    WHERE sent_at IS NULL AND next_attempt_at <= :now AND kind = :kind
    ORDER BY next_attempt_at, id LIMIT :most
    FOR UPDATE SKIP LOCKED
)
UPDATE signalpost.alerts a
SET tries = a.tries + 1,
    next_attempt_at = CAST(:now AS timestamptz) + make_interval(secs => :lease_seconds)
FROM due WHERE a.id = due.id
RETURNING a.id, a.tries
""")

_SET_PACE = text("""
UPDATE signalpost.alert_pace SET begun = CAST(:begun AS timestamptz[]) WHERE id = 1
""")

_BE_SILENT = text(f"""
INSERT INTO signalpost.alert_pace AS pace (id, silent_until)
VALUES (1, {NOW} + make_interval(secs => :seconds))
ON CONFLICT (id) DO UPDATE SET silent_until = excluded.silent_until
""")

MARK_SENT = text(f"""
UPDATE signalpost.alerts SET sent_at = {NOW}, receipt = :receipt, error = NULL
WHERE id = ANY(CAST(:ids AS bigint[])) AND sent_at IS NULL
""")

PUT_OFF = text(f"""
UPDATE signalpost.alerts a
SET next_attempt_at = {NOW} + make_interval(secs => :seconds), error = :error
FROM unnest(CAST(:ids AS bigint[]), CAST(:tries AS int[])) AS claim (id, tries)
WHERE a.id = claim.id AND a.tries = claim.tries AND a.sent_at IS NULL
""")


def claim_message(
    connection: Connection,
    *,
    pace: Pace,
    alert_id: int | None = None,
    lease_seconds: float = LEASE_SECONDS,
    now: datetime | None = None,
) -> Message | None:
    """Take the due alerts of one kind for ``lease_seconds``; commit before anything is sent.

    Args:
        connection: in a transaction that the caller commits.
        pace: window, rate and quiet kinds; due alerts of those are ended here as ``quiet``.
        alert_id: only the kind of this alert; None takes the kind that has waited for longest,
            those about deliveries before all others.
        lease_seconds: how long nobody else takes them; longer than one sending may last.
        now: database time instead of its own.

    Returns:
        The message to send, or None where nothing is due, or window, rate, pause or another sender
        hold it back.
    """
    if not connection.execute(ANY_DUE, {"now": now}).scalar_one():
        return None
    row = connection.execute(_LOCK_PACE, {"now": now}).one()
    values = {"now": row.now, "window_seconds": pace.window_seconds, "alert_id": alert_id}
    if pace.hushed:
        connection.execute(HUSH, {"now": row.now, "kinds": sorted(pace.hushed)})
    if not may_begin(pace, row.begun, row.silent_until, row.now):
        return None
    kind = connection.execute(CHOOSE_KIND, {**values, "loud": list(LOUD_KINDS)}).scalar()
    if kind is None:
        return None
    claimed = connection.execute(
        CLAIM,
        {"now": row.now, "kind": kind, "most": MOST_AT_ONCE, "lease_seconds": lease_seconds},
    ).all()
    if not claimed:
        return None
    connection.execute(_SET_PACE, {"begun": [*lately(row.begun, row.now), row.now]})
    claims = sorted((alert.id, alert.tries) for alert in claimed)
    return read_message(connection, kind=kind, claims=claims, first=FIRST, now=row.now)


def mark_sent(
    connection: Connection, alert_ids: Sequence[int], receipt: str, *, now: datetime | None = None
) -> int:
    """Store one message's receipt on all that it covers, whoever's claim it was.

    Returns:
        Of how many alerts it was the first receipt.
    """
    values = {"ids": list(alert_ids), "receipt": receipt, "now": now}
    return connection.execute(MARK_SENT, values).rowcount


def put_off(
    connection: Connection,
    message: Message,
    *,
    seconds: float,
    error: str,
    silence_seconds: float | None = None,
    now: datetime | None = None,
) -> int:
    """Make claimed alerts due again in ``seconds``, with the reason why they were not sent.

    ``silence_seconds``: nothing at all may be sent for so long, by nobody.

    Returns:
        Of how many alerts the claim was still the newest; the others were left as they were.
    """
    if silence_seconds is not None:
        connection.execute(_BE_SILENT, {"seconds": silence_seconds, "now": now})
    values = {
        "ids": [alert_id for alert_id, _ in message.claims],
        "tries": [tries for _, tries in message.claims],
        "seconds": seconds,
        "error": error,
        "now": now,
    }
    return connection.execute(PUT_OFF, values).rowcount
