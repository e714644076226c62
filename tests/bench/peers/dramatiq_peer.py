"""dramatiq: asynchronous actors on its own event loop, aiohttp, one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware.asyncio import AsyncIO

from tests.bench.peers import async_work, work

broker = RedisBroker(url=work.REDIS_URL)
broker.add_middleware(AsyncIO())
dramatiq.set_broker(broker)
held: dict[str, Any] = {}


@dramatiq.actor
async def deliver(delivery_id: str) -> None:
    if "opening" not in held:
        held["opening"] = asyncio.create_task(async_work.opened())
    await async_work.deliver(await held["opening"], delivery_id)


def feed(_database_url: str, _redis_url: str) -> work.PeerFeed:
    def publish(ids: Sequence[str]) -> None:
        for name in ids:
            deliver.send(name)

    return work.PeerFeed(publish)
