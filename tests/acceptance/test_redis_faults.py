"""Redis killed, away, emptied, cutting its connections: a worker lives, and deliveries go on.

What each test measured is shown by `pytest --log-cli-level=INFO`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from aiohttp import web
from sqlalchemy import Engine

from signalpost import database
from tests import receivers, rows, stack
from tests.acceptance.celery_cluster import LocalWorker, worker_settings
from tests.acceptance.redis_stand import Stand, measured, times
from tests.acceptance.task_events import TaskEvents
from tests.databases import cloned
from tests.waiting import until

logger = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def shared_stand(
    postgres_server: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stand]:
    redis = stack.redis_in(tmp_path_factory.mktemp("redis"))
    with cloned(postgres_server, migrated_template) as url:
        engine = database.sync_engine(url)
        worker = LocalWorker("deliver", worker_settings(url, redis.url()))
        yield Stand(url, engine, redis, worker)
        worker.teardown()
        engine.dispose()
    redis.stop()


@pytest.fixture
def stand(shared_stand: Stand) -> Stand:
    """The shared one, working, whatever the test before has left."""
    if shared_stand.redis.process is None or shared_stand.redis.process.poll() is not None:
        shared_stand.redis.start()
    if shared_stand.worker.status != "running":
        shared_stand.worker.restart()
    shared_stand.consumes()
    return shared_stand


class Gate:
    """A receiver's answer that waits until the test opens it, then goes through codes."""

    def __init__(self, *codes: int) -> None:
        self._open = asyncio.Event()
        self._codes = codes or (201,)
        self._times: Counter[str] = Counter()

    def open(self) -> None:
        self._open.set()

    async def __call__(self, seen: receivers.Seen) -> web.Response:
        await self._open.wait()
        number = self._times[seen.delivery_id]
        self._times[seen.delivery_id] += 1
        return web.Response(status=self._codes[min(number, len(self._codes) - 1)])


async def test_redis_killed_while_a_worker_waits_for_it_and_works(stand: Stand) -> None:
    """The worker outlives its Redis, finishes what it sends, and consumes again after a restart."""
    gate = Gate()
    async with receivers.receiver(gate) as receiver:
        ids = stand.due(receiver.url, 5)
        stand.announce(ids)
        await receiver.wait_for(5)
        stand.kill_redis()
        gate.open()
        await until(lambda: stand.delivered(ids))
        stand.redis.start()
        began = time.monotonic()
        await asyncio.to_thread(stand.consumes)
        measured("Redis back to the first message taken", began)
    assert stand.worker.status == "running"
    assert times(receiver) == {1}


async def test_a_worker_started_without_redis(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """It delivers what is due all the same, and consumes messages once Redis comes."""
    redis = stack.redis_in(tmp_path)
    redis.stop()
    worker = LocalWorker("deliver", worker_settings(database_url, redis.url()))
    stand = Stand(database_url, engine, redis, worker)
    try:
        async with receivers.receiver() as receiver:
            ids = stand.due(receiver.url, 20)
            began = time.monotonic()
            await until(lambda: stand.delivered(ids), seconds=20)
            measured("start without Redis to 20 deliveries", began)
            redis.start()
            began = time.monotonic()
            await asyncio.to_thread(stand.consumes)
            measured("Redis there to the first message taken", began)
        assert times(receiver) == {1}
    finally:
        await asyncio.to_thread(worker.teardown)
        redis.stop()


async def test_redis_emptied_with_a_hundred_messages_in_it(stand: Stand) -> None:
    """Messages that are wiped out cost seconds: each delivery is sent, and sent once."""
    gate = Gate()
    async with receivers.receiver(gate) as receiver:
        ids = stand.due(receiver.url, 100)
        stand.announce(ids)
        await receiver.wait_for(20)
        with stand.client() as client:
            client.flushall()
        began = time.monotonic()
        gate.open()
        await until(lambda: stand.delivered(ids), seconds=20)
        measured("emptied to all 100 delivered", began)
    assert times(receiver) == {1}


async def test_connections_cut_while_tasks_run(stand: Stand) -> None:
    """Redis gives unacknowledged messages out again at once; nothing is sent a second time."""
    gate = Gate()
    async with receivers.receiver(gate) as receiver:
        ids = stand.due(receiver.url, 30)
        with TaskEvents(stand.redis.url()) as events, stand.client() as client:
            stand.announce(ids)
            await receiver.wait_for(30)
            client.client_kill_filter(_type="normal", skipme=True)
            began = time.monotonic()
            await asyncio.to_thread(events.until, lambda: events.of("succeeded"), 30)
            measured("cut to the first message given out again", began)
            await asyncio.to_thread(events.until, lambda: len(events.of("received")) >= 60, 30)
            measured("cut to all messages given out again", began)
            gate.open()
            await until(lambda: stand.delivered(ids))
    assert times(receiver) == {1}


async def test_retries_go_on_while_redis_is_away(stand: Stand) -> None:
    """Retries that no message can be sent for are made all the same, each when it is due."""
    gate = Gate(503, 503, 201)
    planned: dict[UUID, set[datetime | None]] = defaultdict(set)

    def done() -> bool:
        for each, row in stand.found(ids).items():
            planned[each].add(row["next_attempt_at"])
        return stand.delivered(ids)

    async with receivers.receiver(gate) as receiver:
        ids = stand.due(receiver.url, 5, retry_delay_seconds=0.7)
        stand.announce(ids)
        await receiver.wait_for(5)
        stand.kill_redis()
        gate.open()
        await until(done, seconds=30)
    assert times(receiver) == {3}
    with stand.outbox.connect() as connection:
        made = {each: rows.attempts(connection, each) for each in ids}
    late = [
        (attempt["started_at"] - moment).total_seconds()
        for each in ids
        for attempt, moment in zip(made[each][1:], sorted(filter(None, planned[each])), strict=True)
    ]
    logger.info("measured: retries without Redis came at most %.2f s late", max(late))
    # Celery gives up publishing after 0.6 s; the rescue comes 2 s late.
    assert min(late) >= 0
    assert max(late) < 0.5


async def test_messages_are_acknowledged_without_a_stall(stand: Stand) -> None:
    """Three hundred messages of single deliveries go through one worker in a few seconds.

    With kombu 5.6 an acknowledgement from a pool thread waited up to 10 s for the event loop.
    """
    async with receivers.receiver() as receiver:
        ids = stand.due(receiver.url, 300)
        began = time.monotonic()
        stand.announce(ids)
        with stand.client() as client:
            await until(
                lambda: stand.delivered(ids) and not client.exists("deliver", "unacked"), seconds=30
            )
        measured("300 messages to all acknowledged", began)
    assert time.monotonic() - began < 8
    assert times(receiver) == {1}
