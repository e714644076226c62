"""A process of TCP proxies between the stack's parts, which break as they are told.

It reads one JSON order a line from stdin: {"link": "redis", "fault": "reset"}. Links to receivers
write down when the first byte of each request came from the sender, so that lateness is seen by
somebody who is not the sender. Started as `python -m tests.chaos.links FOLDER NAME=HOST:PORT ...`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.plan import BACKLOG

WIRE = "wire.jsonl"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_NOTED = ("x-idempotency-key", "x-signalpost-attempt", "x-signalpost-expires-at")
LAG_LOOK_SECONDS = 0.01
PIECE = 65536


class Lag:
    """How late this process itself has been of late: what it sees, it may see that much later."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def watch(self) -> None:
        """Never returns; a spike is remembered for a second."""
        worst: list[tuple[float, float]] = []
        while True:
            before = time.monotonic()
            await asyncio.sleep(LAG_LOOK_SECONDS)
            now = time.monotonic()
            worst = [(at, lag) for at, lag in worst if now - at < 1]
            worst.append((now, now - before - LAG_LOOK_SECONDS))
            self.seconds = max(lag for _, lag in worst)


class Requests:
    """Finds where each request begins in what a sender writes on one connection."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._head = b""
        self._body_left = 0

    def feed(self, data: bytes, at: float) -> list[dict[str, object]]:
        """The requests whose head ended in `data`, each with the time of its first byte."""
        found: list[dict[str, object]] = []
        while data:
            if self._body_left:
                eaten = min(self._body_left, len(data))
                self._body_left -= eaten
                data = data[eaten:]
                continue
            if self._began is None:
                self._began = at
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                break
            length = _LENGTH.search(head)
            self._body_left = int(length[1]) if length else 0
            lines = head.decode("latin-1").split("\r\n")[1:]
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
            found.append({"at": self._began} | {name: headers.get(name) for name in _NOTED})
            self._began, self._head = None, b""
        return found


@dataclass
class Link:
    """One proxy: where it leads, and what is wrong with it now."""

    name: str
    host: str
    port: int
    log: int | None
    lag: Lag
    fault: str = "none"
    seconds: float = 0.0
    open: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self) -> int:
        """Listen on a free port; return it."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=BACKLOG)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def order(self, fault: str, seconds: float) -> None:
        """Be `none`, `delay` each piece, `refuse`, `hold` or `deaf`, or `reset` all once.

        `hold` lets nothing more through, `deaf` loses only what comes back. What was lost is never
        said; both are healed by a reset, as in a network.
        """
        if self.fault in ("hold", "deaf") or fault in ("reset", "refuse"):
            for writers in list(self.open):
                for writer in writers:
                    _reset(writer)
        self.fault = "none" if fault == "reset" else fault
        self.seconds = seconds

    async def _accept(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        if self.fault == "refuse":
            _reset(back)
            return
        # Whoever connects speaks first. When it did is noted before the way on is made, which takes
        # seconds where a listener is overrun.
        seen, first = Requests(), b""
        with suppress(OSError):
            first = await near.read(PIECE)
        if not first:
            _reset(back)
            return
        self._note(seen.feed(first, time.time()))
        try:
            far, forth = await asyncio.open_connection(self.host, self.port)
        except OSError:
            _reset(back)
            return
        pair = (back, forth)
        self.open.add(pair)
        both = (self._pump(near, forth, seen, first), self._pump(far, back, None))
        try:
            # What resets one side resets the other: a killed strategy's open transaction ends.
            with suppress(OSError):
                await asyncio.gather(*both)
        finally:
            self.open.discard(pair)
            for writer in pair:
                _reset(writer)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        seen: Requests | None,
        first: bytes = b"",
    ) -> None:
        data = first or await source.read(PIECE)
        while data:
            if self.fault == "delay":
                await asyncio.sleep(self.seconds)
            if not (self.fault == "hold" or (self.fault == "deaf" and seen is None)):
                target.write(data)
                await target.drain()
            data = await source.read(PIECE)
            if seen is not None:
                self._note(seen.feed(data, time.time()))
        target.write_eof()

    def _note(self, requests: list[dict[str, object]]) -> None:
        if self.log is not None:
            for request in requests:
                line = json.dumps({"link": self.name, "lag": round(self.lag.seconds, 4), **request})
                os.write(self.log, line.encode() + b"\n")


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, AttributeError):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def run(folder: Path, targets: list[str]) -> None:
    """Serve all links; tell their ports in one line; take orders until stdin ends."""
    log = os.open(folder / WIRE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    lag = Lag()
    links: dict[str, Link] = {}
    for target in targets:
        name, _, address = target.partition("=")
        host, _, port = address.rpartition(":")
        to_receiver = not name.endswith(("postgres", "redis"))
        links[name] = Link(name, host, int(port), log if to_receiver else None, lag)
    ports = {name: await link.serve() for name, link in links.items()}
    print(json.dumps(ports), flush=True)
    watching = asyncio.create_task(lag.watch())
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = json.loads(line)
        links[order["link"]].order(order["fault"], order.get("seconds", 0.0))
        print(json.dumps({"did": order}), flush=True)
    watching.cancel()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2:]))
