"""Cancellations: deliveries are withdrawn, and each is answered by what is surely known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.lifecycle import Status
from signalpost.repository.auditing import Act, leave_trail
from signalpost.repository.keys import lock_keys_of
from signalpost.repository.placing import promote
from signalpost.repository.unblocking import release_blocked

__all__ = ["CANCELLABLE", "Cancellation", "Withdrawn", "cancel"]

CANCELLABLE = (Status.PENDING, Status.SENDING)


class Withdrawn(StrEnum):
    """What a cancellation may promise of one delivery."""

    PREVENTED = "prevented"
    """It will not be sent, and every earlier attempt surely did not arrive."""
    ALREADY_SENT = "already_sent"
    """The receiver accepted it."""
    UNKNOWN = "unknown"
    """It may have arrived, or may still: an attempt is under way, or ended without proof."""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What became of one delivery, and what its owner may rely on.

    `was` is its status before, `status` the one after (a dry run: as it would be); both are None
    where there is no such delivery. `note` says in words why the answer is not plainly `prevented`.
    """

    delivery_id: UUID
    answer: Withdrawn
    was: Status | None = None
    status: Status | None = None
    note: str = ""
    changed: bool = False
    signal_id: UUID | None = None
    endpoint: str | None = None
    instrument: str | None = None
    side: str | None = None


_SELECT = """
SELECT d.id, d.status, d.reason, d.maybe_received, d.attempts, d.wanted_end, d.signal_id,
    e.name AS endpoint, s.instrument, s.side
FROM signalpost.deliveries d
JOIN signalpost.signals s ON s.id = d.signal_id
JOIN signalpost.endpoints e ON e.id = d.endpoint_id
WHERE d.id = ANY(CAST(:ids AS uuid[]))
"""

_LOOK = text(_SELECT)
# The row lock decides the race with a claim and with a record: whoever has it first, the other one
# sees what became of the delivery. What is under way comes first, as with records and with what
# supersedes, for both go on from such a row to those that wait for its end.
_LOCK = text(_SELECT + "ORDER BY d.status = 'sending' DESC, d.id FOR UPDATE OF d")

_WITHDRAW = text("""
UPDATE signalpost.deliveries d
SET status = CASE d.status WHEN 'pending' THEN 'cancelled' ELSE d.status END,
    reason = CASE d.status WHEN 'pending' THEN NULL ELSE d.reason END,
    next_attempt_at = NULL,
    finished_at = CASE d.status WHEN 'pending'
        THEN COALESCE(CAST(:now AS timestamptz), statement_timestamp()) END,
    wanted_end = CASE d.status WHEN 'sending' THEN 'cancelled' END
WHERE d.id = ANY(CAST(:ids AS uuid[])) AND d.status IN ('pending', 'sending')
""")


def cancel(
    conn: Connection,
    delivery_ids: Sequence[UUID],
    *,
    actor: str,
    why: str = "",
    dry_run: bool = False,
    now: datetime | None = None,
) -> list[Cancellation]:
    """Withdraw deliveries, and say of each whether its receiver may still act on it.

    A pending one is `cancelled` at once. One that is being sent is marked: it ends `delivered` or
    `cancelled`, and is not tried again. A finished one is left as it is; a dead one that held up
    those behind it does so no more.

    Args:
        conn: in a transaction that the caller commits.
        delivery_ids: which ones; the answer keeps their order.
        actor: who asks, for the audit trail.
        why: the person's reason, for the audit trail.
        dry_run: change nothing, only say what would happen.
        now: the moment of the end instead of database time.
    """
    wanted = list(dict.fromkeys(delivery_ids))
    keys = set() if dry_run else lock_keys_of(conn, wanted)
    rows = {row.id: row for row in conn.execute(_LOOK if dry_run else _LOCK, {"ids": wanted})}
    dead = [one for one, row in rows.items() if row.status == Status.DEAD]
    released = set(release_blocked(conn, dead)) if dead and not dry_run else set()
    answers = [
        _answer(rows.get(delivery_id), delivery_id, released=delivery_id in released)
        for delivery_id in wanted
    ]
    if released:
        acts = [_act(rows[one.delivery_id], one) for one in answers if one.delivery_id in released]
        leave_trail(conn, acts, "cancel", actor=actor, why=why)
    changed = [answer for answer in answers if answer.changed]
    if changed and not dry_run:
        conn.execute(_WITHDRAW, {"ids": [answer.delivery_id for answer in changed], "now": now})
        acts = [_act(rows[answer.delivery_id], answer) for answer in changed]
        leave_trail(conn, acts, "cancel", actor=actor, why=why)
        promote(conn, keys, unsent=[answer.delivery_id for answer in changed])
    return answers


def _answer(row: Row[Any] | None, delivery_id: UUID, *, released: bool = False) -> Cancellation:
    if row is None:
        return Cancellation(delivery_id, Withdrawn.UNKNOWN, note="there is no delivery of this id")
    was = Status(row.status)
    unproven = "an earlier attempt may have been executed: ask the receiver"
    answer, note = Withdrawn.PREVENTED, ""
    if was is Status.DELIVERED:
        answer, note = Withdrawn.ALREADY_SENT, "the receiver accepted it"
    elif was is Status.SENDING:
        answer, note = Withdrawn.UNKNOWN, "an attempt is under way; it is not tried again"
    elif row.maybe_received:
        answer, note = Withdrawn.UNKNOWN, unproven
    if was.terminal and was is not Status.DELIVERED:
        freed = "those that waited behind it go on" if released else ""
        note = "; ".join(filter(None, (f"it was {was.value} already", freed, note)))
    return Cancellation(
        delivery_id=delivery_id,
        answer=answer,
        was=was,
        status=Status.CANCELLED if was is Status.PENDING else was,
        note=note,
        changed=not was.terminal and row.wanted_end is None,
        signal_id=row.signal_id,
        endpoint=row.endpoint,
        instrument=row.instrument,
        side=row.side,
    )


def _act(row: Row[Any], answer: Cancellation) -> Act:
    after = {"status": answer.status, "answer": answer.answer}
    if answer.was is Status.SENDING:
        after["wanted_end"] = Status.CANCELLED
    before = {"status": row.status, "reason": row.reason, "attempts": row.attempts}
    return Act(f"delivery {answer.delivery_id}", before, after)
