"""A receiver in the test's own loop, whose answers the test chooses, over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Seen:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def delivery_id(self) -> str:
        return self.headers["X-Idempotency-Key"]


Answering = Callable[[Seen], Awaitable[web.Response]]


@dataclass
class Receiver:
    """Where it listens and what it has seen."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_for(self, count: int, *, seconds: float = 10.0) -> None:
        """Wait until this many requests have arrived."""
        async with asyncio.timeout(seconds):
            while len(self.seen) < count:
                self.arrived.clear()
                await self.arrived.wait()


async def accept(_: Seen) -> web.Response:
    """Answer as a receiver that took the signal."""
    return web.json_response({"status": "received"}, status=201)


def status(*codes: int) -> Answering:
    """Answer with these codes in turn, the last one for ever."""
    left = list(codes)

    async def answer(_: Seen) -> web.Response:
        return web.Response(status=left.pop(0) if len(left) > 1 else left[0])

    return answer


def gated() -> tuple[asyncio.Event, Answering]:
    """An answer that accepts once the event is set, and that event."""
    gate = asyncio.Event()

    async def answer(_: Seen) -> web.Response:
        await gate.wait()
        return web.Response(status=201)

    return gate, answer


@asynccontextmanager
async def receiver(answer: Answering = accept) -> AsyncIterator[Receiver]:
    """Run a receiver on a free loopback port."""
    found = Receiver()

    async def handle(request: web.Request) -> web.Response:
        seen = Seen(request.path_qs, dict(request.headers), await request.read())
        found.seen.append(seen)
        found.arrived.set()
        return await answer(seen)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook?from=tests"
    try:
        yield found
    finally:
        await runner.cleanup()
