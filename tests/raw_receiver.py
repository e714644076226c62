"""A receiver made of bare bytes: it says exactly what a test tells it to, right or wrong."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Conversation:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.received = bytearray()
        self.sent = 0
        self.ended = asyncio.Event()

    async def request(self) -> bytes:
        """The next whole request; EOFError once there is none."""
        start = len(self.received)
        await self._until(lambda: b"\r\n\r\n" in self.received[start:])
        end = self.received.index(b"\r\n\r\n", start) + 4
        head = bytes(self.received[start:end])
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        await self._until(lambda: len(self.received) >= end + length)
        return bytes(self.received[start : end + length])

    async def head(self) -> bytes:
        """A request's head; its body is left in the kernel."""
        while not self.received.endswith(b"\r\n\r\n"):
            self.received += await self._reader.readexactly(1)
        return bytes(self.received)

    async def hear(self) -> None:
        """Wait for any bytes at all."""
        await self._until(lambda: len(self.received) > 0)

    async def say(self, data: bytes) -> None:
        """Send bytes, as far as the other side takes them."""
        self._writer.write(data)
        await self._writer.drain()
        self.sent += len(data)

    async def gone(self) -> None:
        """Wait until the other side has hung up."""
        try:
            await self._until(lambda: False)
        except (EOFError, OSError):
            return

    @property
    def closed(self) -> bool:
        """Whether our end is closed for good."""
        inner: socket.socket | None = self._writer.get_extra_info("socket")
        return inner is None or inner.fileno() == -1

    def push(self, data: bytes) -> None:
        """Send bytes at once, without the event loop."""
        inner: socket.socket = self._writer.get_extra_info("socket")
        assert os.write(inner.fileno(), data) == len(data)
        self.sent += len(data)

    def hang_up(self) -> None:
        """Say at once, without the event loop, that nothing more will come (FIN)."""
        inner: socket.socket = self._writer.get_extra_info("socket")
        inner.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Drop the connection the rude way (RST)."""
        inner: socket.socket = self._writer.get_extra_info("socket")
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _until(self, satisfied: Callable[[], bool]) -> None:
        while not satisfied():
            data = await self._reader.read(65536)
            if not data:
                raise EOFError
            self.received += data


Script = Callable[[Conversation], Awaitable[None]]


async def answers_ok(talk: Conversation) -> None:
    """The honest script: answer every request with 200."""
    while True:
        await talk.request()
        await talk.say(OK)


class RawReceiver:
    """Serves `script` on a loopback port of its own; use it as an async context manager."""

    def __init__(
        self,
        script: Script = answers_ok,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.script = script
        self.talks: list[Conversation] = []
        self._tls = tls
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._converse, self._host, 0, ssl=self._tls)
        inner = self._server.sockets[0]
        # A small window, so that what an endless body can push is a measure of what was read.
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.port: int = inner.getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await wait_for(lambda: all(talk.closed for talk in self.talks))

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{self._host}:{self.port}/hook"

    @property
    def received(self) -> int:
        """Bytes of requests received on all connections together."""
        return sum(len(talk.received) for talk in self.talks)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        talk = Conversation(reader, writer)
        self.talks.append(talk)
        try:
            await self.script(talk)
        except (EOFError, OSError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            talk.ended.set()
            self._tasks.discard(task)
            writer.transport.abort()


async def wait_for(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until `condition` holds; TimeoutError if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - kernels and sockets set no Event
            await asyncio.sleep(0.002)
