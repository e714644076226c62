"""What enqueueing costs a strategy: singles at a steady pace, beside doing it by hand, and many.

    python -m tests.measurements.enqueueing

By hand means: two INSERTs, COMMIT, and one message by the same broker, on a blocking connection.
All in one run, in turns, since a machine is not the same from minute to minute; PostgreSQL with
fsync on.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine, text

from signalpost import Producer, Signal
from signalpost.broker import Announcement, Broker
from signalpost.database import migrate, sync_engine
from tests import stack
from tests.producing import add_endpoints, make_signal

PER_SECOND, SECONDS, MANY = 50, 12, 20_000


def by_hand(engine: Engine, broker: Broker) -> Callable[[Signal], None]:
    """Enqueue as one would without a producer: no deadline, no recognition of repeats."""
    signals = text("""
        INSERT INTO signalpost.signals
            (id, producer_id, idempotency_key, body, instrument, side, action)
        VALUES (:id, 'tests', :key, :body, 'AAPL', 'buy', 'open')
        """)
    deliveries = text("""
        INSERT INTO signalpost.deliveries (id, signal_id, endpoint_id)
        SELECT :id, :signal_id, id FROM signalpost.endpoints
        """)

    def enqueue(signal: Signal) -> None:
        delivery_id = uuid4()
        with engine.begin() as connection:
            row = {"id": signal.id, "key": str(signal.id), "body": signal.body()}
            connection.execute(signals, row)
            connection.execute(deliveries, {"id": delivery_id, "signal_id": signal.id})
        broker.announce([Announcement(delivery_id, signal.id or uuid4(), "AAPL", "desk")])

    return enqueue


async def paced(ways: dict[str, Callable[[Signal], Awaitable[object] | object]]) -> None:
    """Each way in turn at the pace, and how long its calls took."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    due = time.monotonic()
    for _ in range(PER_SECOND * SECONDS):
        for name, enqueue in ways.items():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += 1 / PER_SECOND
            signal = make_signal(timestamp=datetime.now(UTC))
            begun = time.perf_counter()
            done = enqueue(signal)
            if isinstance(done, Awaitable):
                await done
            took[name].append(time.perf_counter() - begun)
    for name, times in took.items():
        times.sort()
        half, most = times[len(times) // 2], times[int(len(times) * 0.99)]
        print(f"{name:14} p50 {half * 1e3:5.2f} ms   p99 {most * 1e3:5.2f} ms")


def bulk(producer: Producer, bodies: int) -> None:
    """So many signals in one call, the making of the signals not counted."""
    signals = [make_signal() for _ in range(bodies)]
    for what in ("new", "known"):
        begun = time.perf_counter()
        producer.enqueue_many(signals, timeout=120)
        rate = bodies / (time.perf_counter() - begun)
        print(f"enqueue_many of {bodies:,} {what:5} {rate:8,.0f} signals/s")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="signalpost-measure-") as folder:
        url = stack.postgres_in(Path(folder), durable=True).url()
        redis_url = stack.start_redis(Path(folder))
        migrate(url)
        add_endpoints(url, "desk")
        engine, broker = sync_engine(url), Broker(redis_url)
        with Producer(url, redis_url, producer_id="tests", environ={}) as producer:
            producer.enqueue(make_signal())
            by_hand(engine, broker)(make_signal())
            asyncio.run(
                paced(
                    {
                        "by hand": by_hand(engine, broker),
                        "enqueue": producer.enqueue,
                        "enqueue_async": producer.enqueue_async,
                    }
                )
            )
            bulk(producer, MANY)
        engine.dispose()
        stack.stop_all()


if __name__ == "__main__":
    main()
