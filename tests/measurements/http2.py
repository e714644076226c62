"""What a POST costs over HTTP/1.1 and over HTTP/2, in the client's processor time (docs/adr/0015).

The project has no HTTP/2 client, so this runs in an environment of its own:

    python -m venv build/http2
    build/http2/bin/pip install aiohttp==3.14.5 'httpx[http2]==0.28.1' h2==4.4.1 hypercorn==0.18.0
    build/http2/bin/python tests/measurements/http2.py

Each client posts the same request, as large as ours, to one hypercorn in a process of its own, 1
or 16 at a time; they take turns, and the median turn counts. The last line is h2 alone, with no
socket and no client around it: what any client over it pays at least.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import h2.config
import h2.connection
import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config

BODY = b'{"instrument":"EURUSD","side":"buy"}' * 10
HEADERS = {f"x-header-{n}": f"{n:x}" * 40 for n in range(12)} | {"content-type": "application/json"}
TURNS, SECONDS, ALONE = 5, 1.0, 3000

Post = Callable[[], Awaitable[int]]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, and accept."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def receive(port: int) -> None:
    """Serve both versions of HTTP without TLS."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "ERROR"
    config.keep_alive_max_requests = 10**9

    async def for_ever() -> None:
        await asyncio.Event().wait()

    asyncio.run(serve(application, config, shutdown_trigger=for_ever))


async def cost(post: Post, concurrent: int) -> float:
    """Microseconds of this process a request."""
    end, spent, done = time.perf_counter() + SECONDS, time.process_time(), 0

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < end:
            assert await post() == 201
            done += 1

    await asyncio.gather(*(one() for _ in range(concurrent)))
    return (time.process_time() - spent) / done * 1e6


async def compare(url: str) -> None:
    """Print a line for each number of requests at once."""
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with (
        httpx.AsyncClient(limits=limits) as first,
        httpx.AsyncClient(limits=limits, http1=False, http2=True) as second,
        aiohttp.ClientSession() as session,
    ):

        async def bare() -> int:
            async with session.post(url, data=BODY, headers=HEADERS) as response:
                await response.read()
                return response.status

        async def by(client: httpx.AsyncClient) -> int:
            return (await client.post(url, content=BODY, headers=HEADERS)).status_code

        ways: dict[str, Post] = {
            "aiohttp, HTTP/1.1": bare,
            "httpx, HTTP/1.1": lambda: by(first),
            "httpx, HTTP/2": lambda: by(second),
        }
        for concurrent in (1, 16):
            turns: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(TURNS):
                for name, post in ways.items():
                    turns[name].append(await cost(post, concurrent))
            told = (f"{name} {statistics.median(found):.0f} us" for name, found in turns.items())
            print(f"{concurrent:3} at once: " + "; ".join(told))


def alone() -> float:
    """Microseconds of h2's client side a request: its frames and headers, both ways."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    client.initiate_connection()
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    fixed = {":method": "POST", ":scheme": "http", ":authority": "desk.example", ":path": "/hook"}
    spent = 0.0
    for number in range(ALONE):
        began = time.process_time()
        stream = client.get_next_available_stream_id()
        client.send_headers(
            stream, list((fixed | HEADERS | {"x-signature": f"{number:x}"}).items())
        )
        client.send_data(stream, BODY, end_stream=True)
        out = client.data_to_send()
        spent += time.process_time() - began
        server.receive_data(out)
        server.acknowledge_received_data(len(BODY), stream)
        server.send_headers(stream, [(":status", "201"), ("content-type", "application/json")])
        server.send_data(stream, b"{}", end_stream=True)
        back = server.data_to_send()
        began = time.process_time()
        client.receive_data(back)
        client.acknowledge_received_data(2, stream)
        spent += time.process_time() - began
    return spent / ALONE * 1e6


def main() -> None:
    """Start the receiver, compare, and end it."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    receiver = multiprocessing.Process(target=receive, args=(port,), daemon=True)
    receiver.start()
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        asyncio.run(compare(f"http://127.0.0.1:{port}/hook"))
    finally:
        receiver.kill()
        receiver.join(5)
    print(f"h2 alone: {alone():.0f} us a request")


if __name__ == "__main__":
    main()
