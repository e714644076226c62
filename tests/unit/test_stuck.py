"""When a worker's own watch calls its consumer stuck."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from signalpost.broker import Broker
from signalpost.embedded.launching import free_port
from signalpost_worker.stuck import LOOKS, ConsumerWatch


class Answering(Broker):
    """A Redis that always answers, counted."""

    def __init__(self) -> None:
        super().__init__(f"redis://127.0.0.1:{free_port()}/0")
        self.looks = 0

    def answers(self) -> bool:
        self.looks += 1
        return True


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
