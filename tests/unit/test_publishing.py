from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from uuid import uuid4

import pytest

from signalpost.broker import FEW, Announcement, Broker
from signalpost.producer.publishing import Publisher


class Gate(Broker):
    """A broker that takes announcements only while its gate is open, and notes them."""

    def __init__(self) -> None:
        super().__init__(None)
        self.open = threading.Event()
        self.reached = threading.Semaphore(0)
        self.taken: list[list[Announcement]] = []
        self.broken = False
        self.time = 0.0

    def announce(self, announcements: Sequence[Announcement]) -> bool:
        self.reached.release()
        assert self.open.wait(10)
        if self.broken:
            raise LookupError("nobody expected this")
        self.taken.append(list(announcements))
        return True


@pytest.fixture
def gate() -> Gate:
    """A broker whose gate is shut."""
    return Gate()


@pytest.fixture
def publisher(gate: Gate) -> Iterator[Publisher]:
    """A publisher of at most three batches, with its thread held at the gate by a first one."""
    made = Publisher(gate, most_waiting=3, monotonic=lambda: gate.time)
    made.submit([announcement()])
    assert gate.reached.acquire(timeout=10)
    yield made
    gate.open.set()
    made.close(10)


def announcement() -> Announcement:
    return Announcement(uuid4(), uuid4(), "AAPL", "desk")


def test_what_came_up_meanwhile_goes_out_together(gate: Gate, publisher: Publisher) -> None:
    """While one announcement is under way others gather, and then go out as one, in order."""
    waiting = [announcement() for _ in range(3)]
    told = [publisher.submit([one]) for one in waiting]
    gate.open.set()
    assert [one.result(10) for one in told] == [True] * 3
    assert gate.taken[1:] == [waiting]


def test_beyond_the_bound_the_oldest_is_dropped(gate: Gate, publisher: Publisher) -> None:
    """Nothing grows without limit: the oldest is told as not announced, and the newest kept."""
    waiting = [announcement() for _ in range(5)]
    told = [publisher.submit([one]) for one in waiting]
    assert [one.done() for one in told] == [True, True, False, False, False]
    gate.open.set()
    assert [one.result(10) for one in told] == [False, False, True, True, True]
    assert gate.taken[1:] == [waiting[2:]]


def test_of_many_no_more_is_kept_than_rings_the_doorbell(gate: Gate, publisher: Publisher) -> None:
    """A batch that will ring the doorbell is not held in memory whole."""
    told = publisher.submit([announcement() for _ in range(1000)])
    gate.open.set()
    assert told.result(10)
    assert len(gate.taken[1]) == FEW + 1


def test_a_broker_that_raises_stops_nothing(
    gate: Gate, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """An error nobody expected is logged by its kind, told as not announced, and gone."""
    gate.broken = True
    told = publisher.submit([announcement()])
    gate.open.set()
    assert told.result(10) is False
    assert "not announced (LookupError)" in caplog.text
    assert "nobody expected" not in caplog.text
    gate.broken = False
    assert publisher.submit([announcement()]).result(10)


def test_flush_waits_for_what_is_under_way(gate: Gate, publisher: Publisher) -> None:
    """Flushing says whether all went out in the time given."""
    assert not publisher.flush(0.01)
    gate.open.set()
    assert publisher.flush(10)


def test_closing_is_bounded_and_final(gate: Gate, publisher: Publisher) -> None:
    """A close that cannot flush gives up what waits; afterwards nothing is taken."""
    left = publisher.submit([announcement()])
    publisher.close(0.05)
    assert left.result(0) is False
    assert publisher.submit([announcement()]).result(0) is False
    assert publisher.submit([]).result(0) is True


def test_a_slow_answer_slows_one_caller_only(gate: Gate, publisher: Publisher) -> None:
    """While Redis keeps the thread waiting callers are told no at once, and it goes out later."""
    gate.time = 0.1
    hopeful = publisher.submit([announcement()])
    assert not hopeful.done()
    gate.time = 0.3
    assert publisher.submit([announcement()]).result(0) is False
    gate.open.set()
    assert hopeful.result(10)
    assert publisher.flush(10)
    assert len(gate.taken[1]) == 2


def test_a_caller_that_stops_waiting_does_not_end_the_thread(
    gate: Gate, publisher: Publisher
) -> None:
    """Cancelling the future changes nothing: the announcement and those after it go out."""
    assert not publisher.submit([announcement()]).cancel()
    gate.open.set()
    assert publisher.submit([announcement()]).result(10)
