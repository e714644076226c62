"""arq: asynchronous jobs, aiohttp, one commit; its poll shortened, or it would wait 0.5 s."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from tests.bench.peers import async_work, work

AT_ONCE = 100


async def deliver(ctx: dict[str, Any], delivery_id: str) -> None:
    await async_work.deliver(ctx["opened"], delivery_id)


async def open_all(ctx: dict[str, Any]) -> None:
    ctx["opened"] = await async_work.opened()
    print("ready", flush=True)


async def close_all(ctx: dict[str, Any]) -> None:
    await ctx["opened"].close()


class WorkerSettings:
    """What the `arq` command reads."""

    functions = (deliver,)
    on_startup = open_all
    on_shutdown = close_all
    redis_settings = RedisSettings.from_dsn(work.REDIS_URL) if work.REDIS_URL else RedisSettings()
    max_jobs = 200
    poll_delay = 0.005
    keep_result = 0


def feed(_database_url: str, redis_url: str) -> work.PeerFeed:
    runner = asyncio.Runner()
    pool = runner.run(create_pool(RedisSettings.from_dsn(redis_url)))

    async def send(ids: Sequence[str]) -> None:
        for begin in range(0, len(ids), AT_ONCE):
            some = ids[begin : begin + AT_ONCE]
            await asyncio.gather(*(pool.enqueue_job("deliver", name) for name in some))

    return work.PeerFeed(lambda ids: runner.run(send(ids)))
