"""The same for the peers that run on an event loop: aiohttp and a pool of connections."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp
from psycopg_pool import AsyncConnectionPool

from tests.bench.peers import work

CONNECTIONS = 8


@dataclass(frozen=True)
class Opened:
    """What one worker process keeps open."""

    session: aiohttp.ClientSession
    pool: AsyncConnectionPool

    async def close(self) -> None:
        await self.session.close()
        await self.pool.close()


async def opened() -> Opened:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=work.TIMEOUT_SECONDS),
    )
    pool = AsyncConnectionPool(
        work.DATABASE_URL,
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
        kwargs={"autocommit": True},
        open=False,
        timeout=120,
    )
    await pool.open()
    return Opened(session, pool)


async def deliver(opened: Opened, delivery_id: str) -> None:
    async with opened.pool.connection() as connection:
        found = await (await connection.execute(work.READ, [delivery_id])).fetchone()
    assert found is not None
    url, content, number = found
    tried = work.Tried(delivery_id, number)
    try:
        headers = work.signed(delivery_id, url, content)
        async with opened.session.post(url, data=content, headers=headers) as answer:
            await answer.read()
            tried.code = answer.status
    except (aiohttp.ClientError, TimeoutError) as error:
        tried.error = type(error).__name__
    async with opened.pool.connection() as connection:
        await connection.execute(work.RECORD, tried.row())
