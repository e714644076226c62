"""What a POST of the sender costs beside one of bare aiohttp, in one run (docs/adr/0006).

    python tests/measurements/http_clients.py [seconds per cell]

The receiver is a process of its own that answers as fast as asyncio can. The two clients take
turns, and the median turn counts. The ratio is of processor time per request, which other work on
the machine disturbs least; the rates are for the eye.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from multiprocessing.connection import Connection

import aiohttp

from signalpost.core.outcomes import Failure
from signalpost.sender import Parcel, Sender
from signalpost.transport import AiohttpTransport

BODY = b'{"instrument":"EURUSD","side":"buy"}' * 10
HEADERS = {f"X-Header-{n}": "x" * 40 for n in range(12)} | {"Content-Type": "application/json"}
ANSWER = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
TURNS = 5

Post = Callable[[], Awaitable[object]]


class FastReceiver(asyncio.Protocol):
    """Answers each request that ends as ours do; it need not parse."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.held = b""

    def data_received(self, data: bytes) -> None:
        self.held += data
        if self.held.endswith(BODY):
            self.held = b""
            self.transport.write(ANSWER)


def receive(pipe: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(FastReceiver, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        server.close()

    asyncio.run(serve())


async def measured(post: Post, concurrent: int, seconds: float) -> tuple[float, float]:
    """Requests a second, and processor seconds a request."""
    end = time.perf_counter() + seconds
    spent = time.process_time()
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await post()
            done += 1

    await asyncio.gather(*(worker() for _ in range(concurrent)))
    return done / seconds, (time.process_time() - spent) / done


async def compare(port: int, seconds: float) -> None:
    url = f"http://127.0.0.1:{port}/hook"
    sender = Sender(AiohttpTransport([ip_network("127.0.0.0/8")]))

    def check() -> Failure | None:
        return None

    async def ours() -> None:
        answer = await sender.send(Parcel(url, HEADERS, BODY, 10, check))
        assert answer.status_code == 201, answer

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def bare() -> None:
            async with session.post(url, data=BODY, headers=HEADERS) as response:
                assert response.status == 201
                await response.read()

        for concurrent in (1, 64):
            turns: dict[str, list[tuple[float, float]]] = {"aiohttp": [], "sender": []}
            for _ in range(TURNS):
                for name, post in (("aiohttp", bare), ("sender", ours)):
                    turns[name].append(await measured(post, concurrent, seconds))
            rates = {name: statistics.median(rate for rate, _ in of) for name, of in turns.items()}
            costs = {name: statistics.median(cost for _, cost in of) for name, of in turns.items()}
            print(
                f"{concurrent:3} at once: "
                + ", ".join(f"{n} {rates[n]:.0f}/s {costs[n] * 1e6:.0f} us" for n in turns)
                + f"; sender at {costs['aiohttp'] / costs['sender']:.0%} of aiohttp"
            )
    await sender.aclose()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.Process(target=receive, args=(theirs,))
    receiver.start()
    try:
        asyncio.run(compare(ours.recv(), seconds))
    finally:
        ours.send(None)
        receiver.join(5)


if __name__ == "__main__":
    main()
