"""Replays: a person puts dead letters back to `pending`, and the audit trail says who and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.lifecycle import MIN_LIFE_SECONDS, Status, is_legal
from signalpost.repository.auditing import Act, leave_trail
from signalpost.repository.superseding import key_lock

__all__ = ["REPLAYABLE", "Replay", "replay"]

REPLAYABLE = (Status.DEAD, Status.EXPIRED)


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay did with one delivery, or why it left it as it was.

    `refusal` is None where it was (in a dry run: would be) put back; `status` is the one before.
    `needs` names the options that would have let it pass; empty where none would.
    """

    delivery_id: UUID
    refusal: str | None
    needs: tuple[str, ...] = ()
    status: Status | None = None
    reason: str | None = None
    endpoint: str | None = None
    instrument: str | None = None
    side: str | None = None
    signal_id: UUID | None = None
    maybe_received: bool = False
    outdated: bool = False
    """A newer signal with its supersede key has been enqueued since."""
    expires_at: datetime | None = None
    """Of the delivery afterwards."""


EVEN_UNKNOWN = "--even-unknown"
EVEN_EXPIRED = "--even-expired --ttl SPAN"
EVEN_SUPERSEDED = "--even-superseded"

_WHY = {
    EVEN_UNKNOWN: (
        "the receiver may have executed it already; "
        "ask the receiver, then replay with --even-unknown"
    ),
    EVEN_EXPIRED: "its life is over; --even-expired --ttl SPAN gives it a new one",
    EVEN_SUPERSEDED: (
        "a newer signal has its supersede key, and this one would come after it; "
        "--even-superseded sends it all the same"
    ),
}

_SELECT = """
SELECT d.id, d.signal_id, d.status, d.reason, d.maybe_received, d.expires_at, d.spent, d.replays,
    e.name AS endpoint, e.removed_at, s.instrument, s.side,
    COALESCE(CAST(:now AS timestamptz), statement_timestamp()) AS now,
    EXISTS (
        SELECT FROM signalpost.deliveries n
        JOIN signalpost.signals ns ON ns.id = n.signal_id AND ns.producer_id = s.producer_id
        WHERE n.endpoint_id = d.endpoint_id AND n.supersede_key = d.supersede_key
          AND n.position > d.position) AS outdated
FROM signalpost.deliveries d
JOIN signalpost.signals s ON s.id = d.signal_id
JOIN signalpost.endpoints e ON e.id = d.endpoint_id
WHERE d.id = ANY(CAST(:ids AS uuid[]))
ORDER BY d.id
"""

_LOOK = text(_SELECT)
_LOCK = text(_SELECT + "FOR UPDATE OF d")

_LOCK_SUPERSEDE_KEYS = text(f"""
SELECT pg_advisory_xact_lock(lock) FROM (
    SELECT DISTINCT {key_lock("s.producer_id", "d.supersede_key")} AS lock
    FROM signalpost.deliveries d JOIN signalpost.signals s ON s.id = d.signal_id
    WHERE d.id = ANY(CAST(:ids AS uuid[])) AND d.supersede_key IS NOT NULL
      AND d.status IN ('dead', 'expired')
    ORDER BY lock) keys
""")

_PUT_BACK = text("""
UPDATE signalpost.deliveries d
SET status = 'pending', reason = NULL, finished_at = NULL, spent = 0, replays = d.replays + 1,
    next_attempt_at = back.now, expires_at = back.expires_at,
    held = CASE WHEN d.ordered THEN 'new' END, sequence = NULL, parked = false
FROM unnest(CAST(:ids AS uuid[]), CAST(:nows AS timestamptz[]), CAST(:expiries AS timestamptz[]))
    AS back (id, now, expires_at)
WHERE d.id = back.id AND d.status IN ('dead', 'expired')
""")


def replay(
    conn: Connection,
    delivery_ids: Sequence[UUID],
    *,
    actor: str,
    why: str = "",
    even_unknown: bool = False,
    even_expired_ttl_seconds: float | None = None,
    even_superseded: bool = False,
    dry_run: bool = False,
    now: datetime | None = None,
) -> list[Replay]:
    """Put dead letters back to `pending`, due at once, with a fresh budget of retries.

    The attempt's number goes on growing and `maybe_received` stays, since both are facts of the
    wire. What cannot be replayed is left alone and says why.

    Args:
        conn: in a transaction that the caller commits.
        delivery_ids: which ones; the answer keeps their order.
        actor: who asks, for the audit trail.
        why: the person's reason, for the audit trail.
        even_unknown: also those that the receiver may have executed.
        even_expired_ttl_seconds: also those past their expiry, which get this much new life.
        even_superseded: also those with a supersede key that a newer signal has, so that the
            older comes after the newer.
        dry_run: change nothing, only say what would happen.
        now: the moment to count from instead of database time.
    """
    wanted = list(dict.fromkeys(delivery_ids))
    if not dry_run and not even_superseded:
        conn.execute(_LOCK_SUPERSEDE_KEYS, {"ids": wanted})
    rows = conn.execute(_LOOK if dry_run else _LOCK, {"ids": wanted, "now": now})
    found = {row.id: row for row in rows}
    answers = [
        _judge(
            found.get(delivery_id),
            delivery_id,
            even_unknown=even_unknown,
            even_superseded=even_superseded,
            ttl_seconds=even_expired_ttl_seconds,
        )
        for delivery_id in wanted
    ]
    accepted = [answer for answer in answers if answer.refusal is None]
    if accepted and not dry_run:
        _put_back(conn, accepted, found, actor, why)
    return answers


def _judge(
    row: Row[Any] | None,
    delivery_id: UUID,
    *,
    even_unknown: bool,
    even_superseded: bool,
    ttl_seconds: float | None,
) -> Replay:
    if row is None:
        return Replay(delivery_id, "there is no delivery of this id")
    status = Status(row.status)
    # Expired is also what had no life left for its next retry: without a new one it ends so again.
    over = status is Status.EXPIRED or _is_over(row.expires_at, row.now)
    refusal: str | None = None
    needs: tuple[str, ...] = ()
    if not (is_legal(status, Status.PENDING) and status.terminal):
        refusal = f"it is {status.value}; only dead and expired deliveries can be replayed"
    elif row.removed_at is not None:
        refusal = f"its endpoint {row.endpoint} was removed"
    else:
        needs = (
            *([EVEN_UNKNOWN] if row.maybe_received and not even_unknown else []),
            *([EVEN_EXPIRED] if over and ttl_seconds is None else []),
            *([EVEN_SUPERSEDED] if row.outdated and not even_superseded else []),
        )
        refusal = "; ".join(_WHY[need] for need in needs) or None
    expires_at = row.expires_at
    if over and refusal is None and ttl_seconds is not None:
        expires_at = row.now + timedelta(seconds=ttl_seconds)
    return Replay(
        delivery_id=delivery_id,
        refusal=refusal,
        needs=needs,
        status=status,
        reason=row.reason,
        endpoint=row.endpoint,
        instrument=row.instrument,
        side=row.side,
        signal_id=row.signal_id,
        maybe_received=row.maybe_received,
        outdated=row.outdated,
        expires_at=expires_at,
    )


def _is_over(expires_at: datetime | None, now: datetime) -> bool:
    # With less than this left the claim would only expire it again.
    return expires_at is not None and (expires_at - now).total_seconds() <= MIN_LIFE_SECONDS


def _put_back(
    conn: Connection,
    accepted: Sequence[Replay],
    rows: dict[UUID, Row[Any]],
    actor: str,
    why: str,
) -> None:
    conn.execute(
        _PUT_BACK,
        {
            "ids": [answer.delivery_id for answer in accepted],
            "nows": [rows[answer.delivery_id].now for answer in accepted],
            "expiries": [answer.expires_at for answer in accepted],
        },
    )
    acts = []
    for answer in accepted:
        row = rows[answer.delivery_id]
        before = {"status": row.status, "reason": row.reason, "spent": row.spent}
        after = {"status": Status.PENDING.value, "replays": row.replays + 1}
        if answer.expires_at != row.expires_at:
            before["expires_at"] = row.expires_at.isoformat()
            after["expires_at"] = answer.expires_at and answer.expires_at.isoformat()
        acts.append(Act(f"delivery {answer.delivery_id}", before, after))
    leave_trail(conn, acts, "replay", actor=actor, why=why)
