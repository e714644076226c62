"""When a worker's own watch calls its consumer stuck."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from signalpost.broker import Broker
from signalpost.embedded.launching import free_port
from signalpost_worker.stuck import LOOKS, ConsumerWatch
from tests.processes import wait_for


class Answering(Broker):
    """A Redis that answers, or not, as often in a row as told, counted; always by default."""

    def __init__(self) -> None:
        super().__init__(f"redis://127.0.0.1:{free_port()}/0")
        self.looks = 0
        self.in_a_row: int | None = None

    def answers(self) -> bool:
        self.looks += 1
        return self.in_a_row is None or self.looks % (self.in_a_row + 1) != 0


@pytest.fixture
def stuck() -> threading.Event:
    return threading.Event()


@pytest.fixture
def watch(stuck: threading.Event) -> Iterator[tuple[ConsumerWatch, Answering]]:
    broker = Answering()
    watch = ConsumerWatch(broker, stuck.set, stuck_seconds=0.001, look_seconds=0.01)
    yield watch, broker
    watch.stop()


def test_a_silent_consumer_is_told_after_some_looks(
    watch: tuple[ConsumerWatch, Answering], stuck: threading.Event
) -> None:
    """One look is not enough: a process that was itself stopped has heard nothing either."""
    watch[0].start(SimpleNamespace(consumer=None))
    assert stuck.wait(10)
    assert watch[1].looks == LOOKS
    assert watch[0].trouble() is not None


def test_a_worker_asked_to_end_is_never_stuck(
    watch: tuple[ConsumerWatch, Answering], stuck: threading.Event
) -> None:
    """It takes no more messages, rightly, for as long as its last requests need."""
    watch[0].excuse()
    watch[0].start(SimpleNamespace(consumer=None))
    assert not stuck.wait(0.2)
    assert watch[0].silent_seconds() == 0


def test_a_consumer_that_seems_stuck_now_and_then_is_not(
    watch: tuple[ConsumerWatch, Answering], stuck: threading.Event
) -> None:
    """However often two looks find it silent and a third excuses it, nothing is told."""
    watch[1].in_a_row = 2
    watch[0].start(SimpleNamespace(consumer=None))
    wait_for(lambda: watch[1].looks > 20)
    assert not stuck.is_set()
