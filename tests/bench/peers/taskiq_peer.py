"""taskiq: asynchronous tasks over a Redis list, aiohttp, one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import ListQueueBroker

from tests.bench.peers import async_work, work

AT_ONCE = 100
broker = ListQueueBroker(work.REDIS_URL)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_all(state: TaskiqState) -> None:
    state.opened = await async_work.opened()
    print("ready", flush=True)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_all(state: TaskiqState) -> None:
    await state.opened.close()


@broker.task
async def deliver(delivery_id: str) -> None:
    await async_work.deliver(broker.state.opened, delivery_id)


def feed(_database_url: str, _redis_url: str) -> work.PeerFeed:
    runner = asyncio.Runner()
    runner.run(broker.startup())

    async def send(ids: Sequence[str]) -> None:
        for begin in range(0, len(ids), AT_ONCE):
            await asyncio.gather(*(deliver.kiq(name) for name in ids[begin : begin + AT_ONCE]))

    return work.PeerFeed(lambda ids: runner.run(send(ids)))
