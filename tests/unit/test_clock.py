from __future__ import annotations

from datetime import UTC, datetime, timedelta

from signalpost.clock import LEASE_SECONDS, SILENCE_SECONDS, Clocks, Lease, steady_seconds

START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


class Hands:
    """Clock hands that a test moves."""

    def __init__(self) -> None:
        self.steady = 1000.0
        self.wall = START

    def move(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += timedelta(seconds=seconds)

    def lease(self) -> Lease:
        return Lease(Clocks(steady=lambda: self.steady, wall=lambda: self.wall))


# By calls, since a type checker takes an attribute that was asserted once to stay as it was.


def fresh(lease: Lease) -> bool:
    return lease.fresh


def may_take_back(lease: Lease) -> bool:
    return lease.may_take_back


def clock_ok(lease: Lease) -> bool:
    return lease.clock_ok


def test_a_lease_ends_eight_seconds_after_the_renewal_was_sent() -> None:
    """The lease counts from when the renewal was sent, not from when its answer came."""
    hands = Hands()
    lease = hands.lease()
    assert not fresh(lease)
    sent_at = hands.steady
    hands.move(3)
    lease.renewed(sent_at=sent_at, database_now=START)
    assert fresh(lease)
    hands.move(LEASE_SECONDS - 3 - 0.01)
    assert fresh(lease)
    hands.move(0.02)
    assert not fresh(lease)


def test_a_lapsed_lease_begins_a_new_epoch() -> None:
    """Claims from before a gap may have been taken back, so their epoch no longer holds."""
    hands = Hands()
    lease = hands.lease()
    lease.renewed(sent_at=hands.steady, database_now=START)
    first = lease.epoch
    hands.move(2)
    lease.renewed(sent_at=hands.steady, database_now=START)
    assert lease.epoch == first
    hands.move(LEASE_SECONDS + 0.1)
    lease.renewed(sent_at=hands.steady, database_now=START)
    assert lease.epoch == first + 1


def test_nobody_takes_back_claims_right_after_a_gap() -> None:
    """A database that was away makes nobody a reaper: ten seconds of renewals come first."""
    hands = Hands()
    lease = hands.lease()
    lease.renewed(sent_at=hands.steady, database_now=hands.wall)
    for _ in range(4):
        assert not may_take_back(lease)
        hands.move(2)
        lease.renewed(sent_at=hands.steady, database_now=hands.wall)
    hands.move(SILENCE_SECONDS - 8)
    assert may_take_back(lease)
    hands.move(30)
    assert not may_take_back(lease)
    lease.renewed(sent_at=hands.steady, database_now=hands.wall)
    assert not may_take_back(lease)


def test_database_time_is_never_seen_too_early() -> None:
    """The estimate runs ahead of the database by at most the round trip, never behind."""
    hands = Hands()
    lease = hands.lease()
    sent_at = hands.steady
    database_now = START + timedelta(seconds=0.4)
    hands.move(1.0)
    lease.renewed(sent_at=sent_at, database_now=database_now)
    true_now = START + timedelta(seconds=1.0)
    assert true_now <= lease.now() <= true_now + timedelta(seconds=0.4)


def test_a_clock_that_is_set_between_two_renewals_stamps_nothing() -> None:
    """The wall clock is held against the database's at each question, not at renewals only."""
    hands = Hands()
    lease = hands.lease()
    lease.renewed(sent_at=hands.steady, database_now=START)
    for off in (-400, 400):
        hands.wall = START + timedelta(seconds=off)
        assert not clock_ok(lease)
    hands.wall = START
    assert clock_ok(lease)


def test_a_wall_clock_that_is_off_is_noticed_either_way() -> None:
    """More than a second between wall clock and database stops the sending."""
    for off in (-1.5, 1.5):
        hands = Hands()
        lease = hands.lease()
        lease.renewed(sent_at=hands.steady, database_now=START + timedelta(seconds=off))
        assert not clock_ok(lease)
        lease.renewed(sent_at=hands.steady, database_now=START)
        assert clock_ok(lease)


def test_life_is_measured_in_database_time() -> None:
    """What is left of a life ignores the wall clock."""
    hands = Hands()
    lease = hands.lease()
    lease.renewed(sent_at=hands.steady, database_now=START)
    hands.wall += timedelta(hours=5)
    hands.steady += 10
    assert lease.life_seconds(START + timedelta(seconds=30)) == 20
    assert lease.life_seconds(None) is None


def test_the_steady_clock_moves_forward() -> None:
    """Steady seconds never go back."""
    first = steady_seconds()
    assert steady_seconds() >= first


def test_a_renewal_answered_after_the_lease_had_lapsed_begins_a_new_epoch() -> None:
    """The database may have carried it out late, when others had taken the claims back already."""
    hands = Hands()
    lease = hands.lease()
    lease.renewed(sent_at=hands.steady, database_now=START)
    first = lease.epoch
    hands.move(LEASE_SECONDS - 0.5)
    sent_at = hands.steady
    hands.move(4)
    lease.renewed(sent_at=sent_at, database_now=START + timedelta(seconds=LEASE_SECONDS + 3.5))
    assert fresh(lease)
    assert lease.epoch == first + 1


def test_nobody_takes_back_claims_right_after_the_database_clock_jumped() -> None:
    """A server that took over with another clock makes everybody look silent until they renew."""
    for jump in (60, -60):
        hands = Hands()
        lease = hands.lease()
        for _ in range(8):
            lease.renewed(sent_at=hands.steady, database_now=hands.wall)
            hands.move(2)
        assert may_take_back(lease)
        epoch = lease.epoch
        lease.renewed(sent_at=hands.steady, database_now=hands.wall + timedelta(seconds=jump))
        assert not may_take_back(lease)
        assert lease.epoch == epoch
