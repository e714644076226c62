"""What is recorded: a record, what became of it, and the columns that it is written by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from signalpost.core.lifecycle import Decision, Status
from signalpost.core.outcomes import Answer, Verdict
from signalpost.repository.claimed import Claim


@dataclass(frozen=True, slots=True)
class Record:
    """One attempt, judged and decided, ready to be written."""

    delivery_id: UUID
    claim_id: UUID
    attempt: int
    worker_id: UUID
    started_at: datetime
    answer: Answer
    verdict: Verdict
    decision: Decision
    claim: Claim | None = None
    """What it was an attempt of: tells its ordering key and its endpoint's breaker."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a record.

    ``applied``: it moved the delivery. ``late``: its claim was no longer the one in flight.
    ``status``: of the delivery, afterwards. ``alert_id``: the alert written with it.
    ``freed``: another delivery may go now, since this one has ended. ``notices``: alerts about its
    endpoint.
    """

    applied: bool
    late: bool
    status: Status
    alert_id: int | None
    freed: bool = False
    notices: tuple[int, ...] = ()


_ALERTS = {Status.DEAD: "dead", Status.EXPIRED: "expired"}


def attempt_columns(items: Sequence[Record], late: Mapping[UUID, bool]) -> dict[str, list[Any]]:
    """Records as columns of attempts; ``late`` by claim id."""
    return {
        "delivery_ids": [item.delivery_id for item in items],
        "numbers": [item.attempt for item in items],
        "claim_ids": [item.claim_id for item in items],
        "worker_ids": [item.worker_id for item in items],
        "started_ats": [item.started_at for item in items],
        "durations": [item.answer.duration_seconds for item in items],
        "phases": [item.answer.phase.value for item in items],
        "outcomes": [item.verdict.outcome.value for item in items],
        "status_codes": [item.answer.status_code for item in items],
        "failures": [item.answer.failure and item.answer.failure.value for item in items],
        "details": [item.answer.detail for item in items],
        "counted": [item.verdict.counted for item in items],
        "late": [late[item.claim_id] for item in items],
        "excerpts": [item.answer.excerpt for item in items],
    }


def move_columns(
    moves: Sequence[tuple[Record, Decision]], late: Mapping[UUID, bool]
) -> dict[str, list[Any]]:
    """Records and what they change as columns of deliveries; ``late`` by claim id."""
    return {
        "delivery_ids": [item.delivery_id for item, _ in moves],
        "statuses": [change.status.value for _, change in moves],
        "reasons": [change.reason for _, change in moves],
        "delays": [change.delay_seconds for _, change in moves],
        "spent": [int(item.verdict.counted) for item, _ in moves],
        "maybe": [item.verdict.maybe_received for item, _ in moves],
        "alerts": [_alert(change.status, late=late[item.claim_id]) for item, change in moves],
    }


def _alert(after: Status, *, late: bool) -> str | None:
    # A replay may have moved it on since; whoever was told of its end is told of the success.
    if after is Status.DELIVERED and late:
        return "corrected"
    return _ALERTS.get(after)
