"""The receiver of a run: a process of its own that answers at once, or after a while.

It notes when each delivery's request was first complete. `/fast` answers at once, `/slow` after
SLOW_SECONDS; what follows in the path makes endpoints apart.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["SLOW_SECONDS", "Receiver"]

SLOW_SECONDS = 0.2
LONG_SECONDS = 25.0
_ANSWER = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_KEY, _LENGTH = b"\r\nx-idempotency-key: ", b"\r\ncontent-length: "
_WAITS = {b"/fast": 0.0, b"/slow": SLOW_SECONDS, b"/long": LONG_SECONDS}


class _Answering(asyncio.Protocol):
    seen: dict[bytes, float] = {}  # noqa: RUF012 - one receiver a process

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found:
            return
        low = head.lower()
        if len(body) < int(_value(low, _LENGTH)):
            return
        self._held = b""
        self.seen.setdefault(_value(low, _KEY), time.time())
        path = head.split(b" ", 2)[1]
        if wait := _WAITS[path[:5]]:
            asyncio.get_running_loop().call_later(wait, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)


def _value(head: bytes, name: bytes) -> bytes:
    _, found, rest = head.partition(name)
    if not found:
        raise ValueError(f"a request without {name.strip().decode()}")
    return rest.partition(b"\r\n")[0]


def _serve(pipe: Connection) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Answering, "127.0.0.1", 0, backlog=2048)
        pipe.send(server.sockets[0].getsockname()[1])
        while True:
            asked = await loop.run_in_executor(None, pipe.recv)
            if asked == "end":
                break
            if asked == "clear":
                _Answering.seen.clear()
            pipe.send(dict(_Answering.seen) if asked == "seen" else len(_Answering.seen))
        server.close()

    try:
        asyncio.run(serve())
    except (EOFError, KeyboardInterrupt):
        # Whoever started it is gone, or is ending everything.
        return


class Receiver:
    """The receiver process, as the run sees it."""

    def __init__(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(theirs,), daemon=True
        )
        self._process.start()
        self.port: int = self._pipe.recv()

    def url(self, path: str) -> str:
        """`path` begins with fast, slow or long."""
        return f"http://127.0.0.1:{self.port}/{path}"

    def _ask(self, what: str) -> Any:
        self._pipe.send(what)
        return self._pipe.recv()

    def count(self) -> int:
        """How many deliveries arrived since `clear`."""
        return int(self._ask("count"))

    def clear(self) -> None:
        """Forget what arrived."""
        self._ask("clear")

    def seen(self) -> dict[str, float]:
        """When each delivery first arrived, in seconds of this machine's wall clock."""
        return {key.decode(): at for key, at in self._ask("seen").items()}

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._pipe.send("end")
            self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
