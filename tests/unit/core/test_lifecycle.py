from __future__ import annotations

import itertools
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.core.backoff import Backoff
from signalpost.core.lifecycle import (
    LEGAL_MOVES,
    Decision,
    Policy,
    Standing,
    Status,
    decide,
    is_legal,
    settle,
)
from signalpost.core.outcomes import Answer, Failure, Outcome, Phase, Verdict, classify

CLAIM = UUID(int=1)
POLICY = Policy(timeout_seconds=30, max_retries=5, backoff=Backoff(base_seconds=5))
RETRY = Verdict(Outcome.RETRY, "http_503", counted=True, maybe_received=True)


def decided(
    verdict: Verdict,
    *,
    policy: Policy = POLICY,
    spent: int = 0,
    life: float | None = None,
    retry_after: float | None = None,
    chance: float = 0.0,
) -> Decision:
    return decide(
        verdict,
        policy=policy,
        spent=spent,
        life_seconds=life,
        retry_after_seconds=retry_after,
        chance=chance,
    )


def test_every_pair_of_statuses_is_a_legal_move_or_an_illegal_one() -> None:
    """Terminal statuses are left only to pending (replay) or delivered (late success)."""
    for before, after in itertools.product(Status, Status):
        if before is after or before is Status.DELIVERED:
            assert not is_legal(before, after)
        elif before.terminal:
            replayable = before in (Status.DEAD, Status.EXPIRED)
            assert is_legal(before, after) is (
                after is Status.DELIVERED or (after is Status.PENDING and replayable)
            )
        elif before is Status.PENDING:
            assert is_legal(before, after) is (after is not Status.DEAD)
        else:
            assert is_legal(before, after)


def test_every_legal_move_says_why() -> None:
    """Each move in the table carries its cause, for people and for the picture in the docs."""
    assert all(cause and cause[0].islower() for cause in LEGAL_MOVES.values())


@pytest.mark.parametrize(
    ("spent", "status", "delay"),
    [
        (0, Status.PENDING, 5.0),
        (1, Status.PENDING, 10.0),
        (4, Status.PENDING, 80.0),
        (5, Status.DEAD, None),
        (9, Status.DEAD, None),
    ],
)
def test_retries_follow_the_schedule_until_the_budget_is_spent(
    spent: int, status: Status, delay: float | None
) -> None:
    """Five retries after the first attempt wait 5, 10, 20, 40, 80 s; then it is dead."""
    decision = decided(RETRY, spent=spent)
    assert (decision.status, decision.delay_seconds) == (status, delay)
    assert decision.reason == ("exhausted" if status is Status.DEAD else "http_503")


def test_a_retry_that_would_start_after_the_end_of_life_is_not_scheduled() -> None:
    """Where the next attempt falls past the expiry, the delivery expires now."""
    assert decided(RETRY, life=0.11).status is Status.EXPIRED
    assert decided(RETRY, life=0.2).status is Status.PENDING


def test_the_retries_of_a_short_life_come_quickly_enough_to_be_all_made() -> None:
    """A schedule longer than the life is compressed as a whole, each wait twice the one before."""
    left, waits = 2.0, []
    for spent in range(5):
        delay = decided(RETRY, spent=spent, life=left, chance=0.999).delay_seconds
        assert delay is not None
        waits.append(delay)
        left -= delay
    assert waits == sorted(waits)
    assert waits[0] < 0.1
    assert 0 < left < 0.5
    assert decided(RETRY, spent=5, life=left).status is Status.DEAD
    assert decided(RETRY, life=600).delay_seconds == 5


def test_retry_after_lengthens_the_wait_but_never_shortens_it_or_outlives_the_signal() -> None:
    """The receiver's wish counts from our own backoff up to just before the expiry."""
    assert decided(RETRY, retry_after=30).delay_seconds == 30
    assert decided(RETRY, retry_after=1).delay_seconds == 5
    capped = decided(RETRY, retry_after=60, life=20).delay_seconds
    assert capped is not None
    assert 19 < capped < 20


@pytest.mark.parametrize(
    ("verdict", "status", "reason"),
    [
        (Verdict(Outcome.DELIVERED, "http_201", True, False), Status.DELIVERED, None),
        (Verdict(Outcome.REJECTED, "http_422", True, False), Status.DEAD, "rejected"),
        (Verdict(Outcome.GONE, "http_410", True, False), Status.DEAD, "gone"),
        (Verdict(Outcome.EXPIRED, "expired", False, False), Status.EXPIRED, "expired"),
    ],
)
def test_final_outcomes_end_the_delivery_at_once(
    verdict: Verdict, status: Status, reason: str | None
) -> None:
    """Accepted, rejected, gone and expired leave nothing to try."""
    assert decided(verdict) == Decision(status, reason)


def test_an_unknown_outcome_is_retried_or_stopped_as_the_endpoint_says() -> None:
    """An unknown outcome is retried, unless the endpoint says that it must not be."""
    unknown = classify(Answer(Phase.SENT, 1, failure=Failure.TIMEOUT), maybe_received=False)
    stop = Policy(30, 5, Backoff(base_seconds=5), on_unknown="stop")
    assert decided(unknown).status is Status.PENDING
    assert decided(unknown, policy=stop) == Decision(Status.DEAD, "unknown")
    assert decided(RETRY, policy=stop).status is Status.PENDING


@pytest.mark.parametrize(
    ("failure", "delay"),
    [
        (Failure.SHUTDOWN, 0.0),
        (Failure.LEASE, 0.0),
        (Failure.CLOCK, 1.0),
        (Failure.SECRET, 30.0),
    ],
)
def test_a_released_claim_goes_back_to_pending_even_with_the_budget_spent(
    failure: Failure, delay: float
) -> None:
    """What we ourselves stopped before a byte was sent costs nothing and is tried again."""
    verdict = classify(Answer(Phase.NONE, 0, failure=failure), maybe_received=False)
    decision = decided(verdict, spent=99)
    assert (decision.status, decision.delay_seconds) == (Status.PENDING, delay)


@pytest.mark.parametrize("wanted", [Status.CANCELLED, Status.SUPERSEDED])
@pytest.mark.parametrize(
    "decision",
    [
        Decision(Status.PENDING, "http_503", 5.0),
        Decision(Status.DEAD, "rejected"),
        Decision(Status.EXPIRED, "expired"),
        Decision(Status.DELIVERED),
    ],
)
def test_what_was_withdrawn_ends_so_unless_it_was_accepted(
    wanted: Status, decision: Decision
) -> None:
    """No retry, no dead letter: it ends cancelled or superseded, or delivered, because it is."""
    change = settle(Standing(Status.SENDING, CLAIM, wanted), CLAIM, decision)

    assert change is not None
    assert is_legal(Status.SENDING, change.status)
    assert change.delay_seconds is None
    if decision.status is Status.DELIVERED:
        assert change == decision
    else:
        assert change == Decision(wanted, decision.reason)


def test_the_news_of_another_claim_ends_no_withdrawal() -> None:
    """A delivery that was withdrawn waits for its own claim."""
    standing = Standing(Status.SENDING, CLAIM, Status.CANCELLED)

    assert settle(standing, uuid4(), Decision(Status.DEAD, "rejected")) is None


@given(st.sampled_from(Status), st.sampled_from(Status), st.booleans())
def test_settling_makes_only_legal_moves(before: Status, after: Status, own: bool) -> None:
    """News moves a delivery only by its own claim, or by a success; never illegally."""
    if after in (Status.SENDING, Status.CANCELLED, Status.SUPERSEDED):
        return
    claim_id = CLAIM if before is Status.SENDING else None
    change = settle(Standing(before, claim_id), CLAIM if own else uuid4(), Decision(after))
    if change is not None:
        assert is_legal(before, change.status)
    if before is Status.SENDING and own:
        assert change == Decision(after)
    elif after is not Status.DELIVERED or before is Status.DELIVERED:
        assert change is None
    else:
        assert change == Decision(Status.DELIVERED)
