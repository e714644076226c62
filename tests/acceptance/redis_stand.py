"""A deliver worker with a Redis that only it uses, and what tests ask of the two."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from redis import Redis
from sqlalchemy import Engine

from signalpost.broker import Broker
from signalpost.embedded.valkey import ValkeyServer
from tests import receivers, rows
from tests.acceptance.celery_cluster import LocalWorker
from tests.acceptance.task_events import TaskEvents
from tests.engines import SEALED

__all__ = ["Stand", "measured", "times"]

logger = logging.getLogger(__name__)


@dataclass
class Stand:
    """A deliver worker with a Redis that only it uses."""

    database_url: str
    outbox: Engine
    redis: ValkeyServer
    worker: LocalWorker

    def due(self, url: str, count: int, **policy: float) -> list[UUID]:
        """Commit deliveries that are due now, to one endpoint, and tell nobody."""
        with self.outbox.begin() as connection:
            endpoint_id = rows.add_endpoint(connection, url=url, secret_ciphertext=SEALED, **policy)
            return [rows.add_delivery(connection, endpoint_id=endpoint_id) for _ in range(count)]

    def announce(self, delivery_ids: Sequence[UUID]) -> None:
        broker = Broker(self.redis.url())
        assert all(rows.announce(broker, delivery_id) for delivery_id in delivery_ids)
        broker.close()

    def found(self, delivery_ids: Sequence[UUID]) -> dict[UUID, Mapping[str, Any]]:
        with self.outbox.connect() as connection:
            return {each: rows.delivery(connection, each) for each in delivery_ids}

    def delivered(self, delivery_ids: Sequence[UUID]) -> bool:
        return {row["status"] for row in self.found(delivery_ids).values()} == {"delivered"}

    def consumes(self) -> None:
        """Return once a message goes through: one of no delivery, which no rescue can do."""

        def came() -> bool:
            assert self.worker.status == "running", self.worker.logs()
            return bool(events.of("succeeded"))

        with TaskEvents(self.redis.url()) as events:
            self.announce([uuid4()])
            events.until(came, 30)

    def kill_redis(self) -> None:
        assert self.redis.process is not None
        self.redis.process.kill()
        self.redis.process.wait()

    def client(self) -> Redis:
        return self.client_of(self.redis)

    def client_of(self, server: ValkeyServer) -> Redis:
        return Redis.from_url(server.url())


def measured(what: str, since: float) -> None:
    logger.info("measured: %s: %.1f s", what, time.monotonic() - since)


def times(receiver: receivers.Receiver) -> set[int]:
    """How many times deliveries arrived: {1} if each came exactly once."""
    return set(Counter(seen.delivery_id for seen in receiver.seen).values())
