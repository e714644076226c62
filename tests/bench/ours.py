"""signalpost's own feeder: due rows with a message each, or with the doorbell alone."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from redis import Redis
from sqlalchemy import Connection, insert, text

from signalpost import Producer, Signal
from signalpost.broker import Announcement, Broker
from signalpost.database import migrate, sync_engine
from signalpost.models import DeliveryRow, SignalRow
from tests import rows

SEALED, WAY = "BENCH_SEALED", "BENCH_WAY"
AT_ONCE = 1000
TTL_SECONDS = 600


def signal() -> Signal:
    """A signal that is like no other one."""
    return Signal(
        id=uuid4(),
        instrument="AAPL",
        side="buy",
        entry_price="101.5",
        stop_loss="99",
        take_profit="110",
        confidence="0.8",
        reason="measured",
        timestamp=datetime.now(UTC),
    )


class OurFeed:
    """See feeding.Feed; `way` is deliver or drain, and says what `fill` tells the workers."""

    def __init__(self, database_url: str, redis_url: str, way: str) -> None:
        migrate(database_url)
        self._engine = sync_engine(database_url)
        self._redis = Redis.from_url(redis_url)
        self._broker = Broker(redis_url)
        self._producer = Producer(database_url, redis_url, producer_id="bench", environ={})
        self._way = way
        self._names: dict[str, str] = {}
        self._ids: dict[str, int] = {}
        self._body = signal().body()

    def clear(self, urls: Sequence[str]) -> None:
        """Also waits until no message is left that finds nothing."""
        with self._engine.begin() as connection:
            # Whatever still drains finds nothing more.
            connection.execute(text("TRUNCATE signalpost.signals CASCADE"))
        end = time.monotonic() + 30
        while self._redis.exists("deliver", "drain", "unacked") and time.monotonic() < end:
            time.sleep(0.02)
        sealed = bytes.fromhex(os.environ[SEALED])
        with self._engine.begin() as connection:
            connection.execute(text("TRUNCATE signalpost.signals, signalpost.endpoints CASCADE"))
            for number, url in enumerate(urls):
                name = self._names[url] = f"bench-{number}"
                self._ids[url] = rows.add_endpoint(
                    connection, name=name, url=url, secret_ciphertext=sealed
                )

    def adopt(self, urls: Sequence[str]) -> None:
        self._names = {url: f"bench-{number}" for number, url in enumerate(urls)}

    def fill(self, urls: Sequence[str]) -> None:
        made: list[Announcement] = []
        with self._engine.begin() as connection:
            for begin in range(0, len(urls), AT_ONCE):
                made += self._store(connection, urls[begin : begin + AT_ONCE])
        if self._way == "drain":
            self._broker.ring()
            return
        for item in made:
            self._broker.announce([item])

    def _store(self, connection: Connection, urls: Sequence[str]) -> list[Announcement]:
        signals = [uuid4() for _ in urls]
        deliveries = [uuid4() for _ in urls]
        connection.execute(insert(SignalRow), [self._signal(one) for one in signals])
        expires = connection.execute(
            text(f"SELECT clock_timestamp() + interval '{TTL_SECONDS} seconds'")
        ).scalar_one()
        connection.execute(
            insert(DeliveryRow),
            [
                {"id": one, "signal_id": of, "endpoint_id": self._ids[url], "expires_at": expires}
                for one, of, url in zip(deliveries, signals, urls, strict=True)
            ],
        )
        return [
            Announcement(one, of, "AAPL", self._names[url])
            for one, of, url in zip(deliveries, signals, urls, strict=True)
        ]

    def _signal(self, signal_id: UUID) -> dict[str, object]:
        return {
            "id": signal_id,
            "producer_id": "bench",
            "idempotency_key": str(signal_id),
            "body": self._body,
            "instrument": "AAPL",
            "side": "buy",
            "action": "open",
        }

    def one(self, url: str) -> str:
        found = self._producer.enqueue(signal(), endpoints=[self._names[url]])
        return str(found.deliveries[0].delivery_id)

    def many(self, url: str, count: int) -> float:
        made = [signal() for _ in range(count)]
        begun = time.perf_counter()
        self._producer.enqueue_many(made, endpoints=[self._names[url]], timeout=120)
        return time.perf_counter() - begun

    def left(self) -> int:
        question = text(
            "SELECT (SELECT count(*) FROM signalpost.deliveries WHERE status = 'pending')"
            " + (SELECT count(*) FROM signalpost.deliveries WHERE status = 'sending')"
        )
        with self._engine.connect() as connection:
            return int(connection.execute(question).scalar_one())


def feed(database_url: str, redis_url: str) -> OurFeed:
    return OurFeed(database_url, redis_url, os.environ[WAY])
