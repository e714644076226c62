"""Connections that break at any byte: whatever a call says about its signal is true."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator

import pytest

from signalpost import EnqueueError, EnqueueUnknown, Producer
from tests.producing import make_signal, outbox, producer_on, stored_ids
from tests.proxy import Proxy

CALLERS, CALLS = 6, 40


@pytest.fixture(scope="module")
def outbox_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """A database with an endpoint, of this storm alone."""
    with outbox(postgres_server, migrated_template, "desk") as url:
        yield url


class Weather:
    """What becomes of each piece that a client sends, by a fixed chance."""

    def __init__(self) -> None:
        self._chance = random.Random(7)

    def __call__(self, _: bytes) -> str:
        drawn = self._chance.random()
        for fate, share in (("cut", 0.03), ("pass and cut", 0.03), ("hold", 0.01)):
            if drawn < share:
                return fate
            drawn -= share
        return "pass"


class Told:
    """What the calls said: ids that are stored, that are not, and that nobody knows of."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.stored: set[str] = set()
        self.missing: set[str] = set()
        self.unknown: list[set[str]] = []
        self.strange: list[BaseException] = []

    def call(self, number: int) -> None:
        """One after the other: single calls, awaited ones, or three at once."""
        for _ in range(CALLS):
            signals = [make_signal() for _ in range(3 if number % 3 == 2 else 1)]
            ids = {str(signal.id) for signal in signals}
            try:
                if len(signals) > 1:
                    self._producer.enqueue_many(signals, timeout=0.5)
                elif number % 3:
                    asyncio.run(self._producer.enqueue_async(signals[0], timeout=0.5))
                else:
                    self._producer.enqueue(signals[0], timeout=0.5)
                self.stored |= ids
            except EnqueueUnknown:
                self.unknown.append(ids)
            except EnqueueError:
                self.missing |= ids
            except BaseException as error:  # noqa: BLE001 - just what is looked for
                self.strange.append(error)


def test_no_answer_is_a_lie(outbox_url: str) -> None:
    """Stored is stored, not written is not written, and many are all there or none."""
    with Proxy(outbox_url, Weather()) as proxy, producer_on(proxy.url) as producer:
        told = Told(producer)
        callers = [threading.Thread(target=told.call, args=(n,)) for n in range(CALLERS)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert proxy.cuts > 10
    there = stored_ids(outbox_url)
    assert told.strange == []
    assert told.stored <= there
    assert not told.missing & there
    assert all(ids <= there or not ids & there for ids in told.unknown)
    assert len(told.stored) > CALLERS * CALLS / 3
