"""The statuses of a delivery, the one table of legal moves, and how an attempt moves it.

Pure. The picture of the same table is docs/lifecycle.md; a test keeps the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal
from uuid import UUID

from signalpost.core.backoff import Backoff
from signalpost.core.outcomes import Failure, Outcome, Verdict


class Status(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"

    @property
    def terminal(self) -> bool:
        """Whether only a replay or a late success leaves it."""
        return self not in (Status.PENDING, Status.SENDING)


_S = Status

LEGAL_MOVES: dict[tuple[Status, Status], str] = {
    (_S.PENDING, _S.SENDING): "claimed by a worker",
    (_S.PENDING, _S.EXPIRED): "its life ended before an attempt",
    (_S.PENDING, _S.CANCELLED): "a person cancelled it",
    (_S.PENDING, _S.SUPERSEDED): "a newer signal took its place",
    (_S.PENDING, _S.DELIVERED): "a claim that was taken back succeeded after all",
    (_S.SENDING, _S.PENDING): "retry, claim given back, or claim taken back",
    (_S.SENDING, _S.DELIVERED): "the receiver accepted it",
    (_S.SENDING, _S.DEAD): "rejected, gone, retries exhausted, or unknown where that stops",
    (_S.SENDING, _S.EXPIRED): "its life ended, or would end before the next attempt",
    (_S.SENDING, _S.CANCELLED): "cancelled while it was under way",
    (_S.SENDING, _S.SUPERSEDED): "superseded while it was under way",
    (_S.DEAD, _S.PENDING): "replayed by a person",
    (_S.DEAD, _S.DELIVERED): "late success",
    (_S.EXPIRED, _S.PENDING): "replayed by a person with a new life",
    (_S.EXPIRED, _S.DELIVERED): "late success",
    (_S.CANCELLED, _S.DELIVERED): "late success",
    (_S.SUPERSEDED, _S.DELIVERED): "late success",
}
"""Every move that may happen, with its cause; whatever is not here is a bug."""

MIN_LIFE_SECONDS = 0.1
"""An attempt is begun only with at least this much life left."""

LIFE_FOR_RETRIES = 0.9
"""The part of a life that the waits between its retries may take."""
QUICKEST_RETRY_SECONDS = 0.02

RETRY_AFTER_CAP_SECONDS = 3600.0

SECRET_PAUSE_SECONDS = 30.0
CLOCK_PAUSE_SECONDS = 1.0


def is_legal(before: Status, after: Status) -> bool:
    """Tell whether a delivery may go from ``before`` to ``after``."""
    return (before, after) in LEGAL_MOVES


@dataclass(frozen=True, slots=True)
class Policy:
    """An endpoint's way of being delivered to, its own values over the settings'."""

    timeout_seconds: float
    max_retries: int
    backoff: Backoff
    on_unknown: Literal["retry", "stop"] = "retry"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a delivery after an attempt."""

    status: Status
    reason: str | None = None
    delay_seconds: float | None = None
    """Until the next attempt; set where the status is pending."""


def decide(
    verdict: Verdict,
    *,
    policy: Policy,
    spent: int,
    life_seconds: float | None,
    retry_after_seconds: float | None,
    chance: float,
) -> Decision:
    """Decide what follows an attempt.

    Args:
        verdict: what the attempt meant.
        policy: the endpoint's.
        spent: counted attempts before this one since enqueue or the last replay.
        life_seconds: what is left of the delivery's life; None never ends.
        retry_after_seconds: the receiver's wish, read from ``Retry-After``.
        chance: in [0, 1), for the jitter.
    """
    match verdict.outcome:
        case Outcome.DELIVERED:
            return Decision(Status.DELIVERED)
        case Outcome.REJECTED | Outcome.GONE:
            return Decision(Status.DEAD, verdict.outcome.value)
        case Outcome.EXPIRED:
            return Decision(Status.EXPIRED, "expired")
        case Outcome.RELEASED:
            return Decision(Status.PENDING, verdict.reason, _release_delay(verdict.reason))
        case Outcome.UNKNOWN if policy.on_unknown == "stop":
            return Decision(Status.DEAD, "unknown")
        case _:
            return _retry(
                verdict,
                policy=policy,
                spent=spent,
                life=life_seconds,
                retry_after=retry_after_seconds,
                delay=_fitting_delay(policy, spent=spent, life=life_seconds, chance=chance),
            )


def _fitting_delay(policy: Policy, *, spent: int, life: float | None, chance: float) -> float:
    """The wait before the next retry, of a schedule that fits what is left of the life.

    A schedule that is longer is compressed as a whole, so that a signal with a short life is tried
    again quickly, and all of its retries have their time.
    """
    backoff = policy.backoff
    delay = backoff.delay(spent, chance)
    if life is None or spent >= policy.max_retries:
        return delay
    schedule = backoff.total_seconds(policy.max_retries) - backoff.total_seconds(spent)
    fitting = LIFE_FOR_RETRIES * life
    if schedule <= fitting:
        return delay
    return max(min(delay, QUICKEST_RETRY_SECONDS), delay * fitting / schedule)


def _release_delay(reason: str) -> float:
    if reason == Failure.SECRET:
        return SECRET_PAUSE_SECONDS
    return CLOCK_PAUSE_SECONDS if reason == Failure.CLOCK else 0.0


def _retry(
    verdict: Verdict,
    *,
    policy: Policy,
    spent: int,
    life: float | None,
    retry_after: float | None,
    delay: float,
) -> Decision:
    if spent + verdict.counted > policy.max_retries:
        return Decision(Status.DEAD, "exhausted")
    if life is not None and delay >= life - MIN_LIFE_SECONDS:
        # Scheduling it would only keep the operator waiting for the same end.
        return Decision(Status.EXPIRED, "no life left for a retry")
    if retry_after is not None:
        latest = retry_after if life is None else min(retry_after, life - 2 * MIN_LIFE_SECONDS)
        delay = max(delay, latest)
    return Decision(Status.PENDING, verdict.reason, delay)


@dataclass(frozen=True, slots=True)
class Standing:
    """A delivery as it stands while its row is locked."""

    status: Status
    claim_id: UUID | None
    wanted_end: Status | None = None
    """Cancelled or superseded, where it was withdrawn while the attempt is under way."""


def settle(standing: Standing, claim_id: UUID, decision: Decision) -> Decision | None:
    """Tell what a claim's news changes: its own decision, a late success, or nothing.

    The claim id is the fencing token: only the claim in flight moves the delivery. A success from
    any other claim, however old, still makes it delivered, because it is.
    A delivery that was withdrawn meanwhile ends so, unless it was accepted.
    """
    if standing.status is Status.SENDING and standing.claim_id == claim_id:
        return _withdrawn(standing.wanted_end, decision)
    if decision.status is Status.DELIVERED and standing.status is not Status.DELIVERED:
        return decision
    return None


def _withdrawn(wanted_end: Status | None, decision: Decision) -> Decision:
    """What was withdrawn meanwhile is not tried again, and dies no other death."""
    if wanted_end is None or decision.status is Status.DELIVERED:
        return decision
    return Decision(wanted_end, decision.reason)
