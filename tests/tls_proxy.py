"""TLS in front of a server that speaks plain TCP, for clients that must check certificates."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import trustme

__all__ = ["Secured", "secured"]


@dataclass(frozen=True)
class Secured:
    """`url` leads through TLS; `ca_file` holds the authority that vouches for `localhost`."""

    url: str
    ca_file: Path


@contextmanager
def secured(redis_url: str, folder: Path) -> Iterator[Secured]:
    """A `rediss://localhost` address of the server at `redis_url`."""
    authority = trustme.CA()
    ca_file = folder / "authority file.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    parts = urlsplit(redis_url)
    loop = asyncio.new_event_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        theirs, ours = await asyncio.open_connection(parts.hostname, parts.port)
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(_pump(reader, ours), _pump(theirs, writer))
        for end in (ours, writer):
            end.transport.abort()
        tasks.discard(task)

    async def serve() -> asyncio.Server:
        return await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)

    server = loop.run_until_complete(serve())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def end() -> None:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    user, _, _ = parts.netloc.rpartition("@")
    address = f"{user}@localhost:{server.sockets[0].getsockname()[1]}"
    try:
        yield Secured(parts._replace(scheme="rediss", netloc=address).geturl(), ca_file)
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
