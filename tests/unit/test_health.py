from __future__ import annotations

from dataclasses import dataclass

from signalpost.database import sync_engine
from signalpost.health import STUCK_SECONDS, OutboxLook, Reading, consumer_trouble, outbox_trouble


@dataclass
class Consumer:
    """A consumer as the test tells it to be."""

    now: float = 100.0
    heard: float | None = None
    redis: bool = True
    full: bool = False
    asked: int = 0

    def answers(self) -> bool:
        self.asked += 1
        return self.redis

    def reading(self) -> Reading:
        return Reading(
            heard_at=lambda: self.heard,
            redis_answers=self.answers,
            busy=lambda: self.full,
            monotonic=lambda: self.now,
        )


def test_a_consumer_that_is_answered_is_well() -> None:
    """While answers come, nobody asks Redis anything more."""
    consumer = Consumer(heard=99.5)
    assert consumer.reading().silent_seconds() == 0.5
    assert consumer.asked == 0


def test_a_silent_consumer_of_a_redis_that_answers_is_stuck() -> None:
    """It is called stuck after its time, counted from the last answer."""
    consumer = Consumer(heard=100.0)
    reading = consumer.reading()
    consumer.now += STUCK_SECONDS - 1
    assert consumer_trouble(reading.silent_seconds()) is None
    consumer.now += 1
    trouble = consumer_trouble(reading.silent_seconds())
    assert trouble is not None
    assert "heard nothing from Redis for 60 s" in trouble


def test_a_consumer_that_never_heard_anything_is_stuck_too() -> None:
    """It counts from the worker's start."""
    consumer = Consumer()
    reading = consumer.reading()
    consumer.now += STUCK_SECONDS
    assert consumer_trouble(reading.silent_seconds())


def test_a_redis_that_is_away_makes_no_consumer_stuck() -> None:
    """Deliveries go on without Redis, and after its return the consumer has its time again."""
    consumer = Consumer(heard=100.0)
    reading = consumer.reading()
    consumer.redis, consumer.now = False, 500.0
    assert reading.silent_seconds() == 0
    consumer.redis, consumer.now = True, 510.0
    assert reading.silent_seconds() == 0
    consumer.now += STUCK_SECONDS - 1
    assert consumer_trouble(reading.silent_seconds()) is None
    consumer.now += 1
    assert consumer_trouble(reading.silent_seconds())


def test_a_full_consumer_is_not_stuck() -> None:
    """One that has as much as it may take asks Redis for nothing, rightly."""
    consumer = Consumer(heard=100.0, full=True)
    reading = consumer.reading()
    consumer.now += 10 * STUCK_SECONDS
    assert reading.silent_seconds() == 0
    consumer.full = False
    assert reading.silent_seconds() == 0


def test_an_outbox_that_cannot_be_read_is_a_trouble_without_its_address() -> None:
    """The line names the kind of error; a URL or a password is not in it."""
    url = "postgresql://alice:wonderland@127.0.0.1:9/none"
    now = [0.0]
    look = OutboxLook(lambda: sync_engine(url, connect_timeout=1), monotonic=lambda: now[0])
    assert outbox_trouble(look()) == "the database is away (OperationalError)"
    look.close()
