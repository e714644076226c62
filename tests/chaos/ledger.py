"""The receivers: one process that verifies, misbehaves as told, and keeps a ledger of its own.

Each request is written down (fsync) before it is answered. It knows nothing of the sender but
the endpoints' secrets. One JSON order a line on stdin: {"endpoint": "desk", "mode": "timeout",
"share": 0.5}. Started as `python -m tests.chaos.ledger FOLDER SEED NAME=SECRET ...`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

from signalpost import Profile, SignatureError, verify
from tests.chaos.plan import BACKLOG

LEDGER = "ledger.jsonl"
MODES = (
    "ok",
    "error",
    "reject",
    "busy",
    "busy_date",
    "conflict",
    "timeout",
    "reset",
    "act_reset",
    "drip",
    "garbage",
    "close",
)


@dataclass
class Mode:
    """What becomes of this share of the requests to an endpoint."""

    name: str = "ok"
    share: float = 1.0


class Receivers:
    """Answers for all endpoints; the first path segment says which."""

    def __init__(self, folder: Path, seed: int, secrets: dict[str, str]) -> None:
        self._log = os.open(folder / LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._chance = random.Random(seed)
        self._secrets = secrets
        self._acted: set[str] = set()
        self._modes = {name: Mode() for name in secrets}
        # What the sender posts to: the address of the proxy, which the kit's user would configure.
        self.authority: dict[str, str] = {}

    def order(self, order: dict[str, object]) -> None:
        """Take a new mode, or the addresses that the sender was given."""
        if "authority" in order:
            self.authority = dict(order["authority"])  # type: ignore[call-overload]  # JSON
        else:
            mode = Mode(str(order["mode"]), float(str(order.get("share", 1.0))))
            self._modes[str(order["endpoint"])] = mode

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with suppress(OSError, asyncio.IncompleteReadError, ConnectionError):
            while await self._one(reader, writer):
                pass
        writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        lower = {name.lower(): value for name, value in headers.items()}
        body = await reader.readexactly(int(lower.get("content-length", "0")))
        name = path.strip("/").partition("/")[0]
        mode = self._modes[name]
        way = mode.name if self._chance.random() < mode.share else "ok"
        valid = self._verified(name, method, path, headers, body)
        acts = way in ("ok", "act_reset", "conflict") and valid
        key = lower.get("x-idempotency-key", "")
        fresh = acts and key not in self._acted
        if acts:
            self._acted.add(key)
        said = _said(way, fresh=fresh, valid=valid)
        self._write(
            {
                "at": time.time(),
                "endpoint": name,
                "key": key,
                "attempt": int(lower.get("x-signalpost-attempt", "0")),
                "sequence": lower.get("x-signalpost-sequence"),
                "replayed": lower.get("x-signalpost-replayed"),
                "signal": _field(body, "id"),
                "instrument": _field(body, "instrument"),
                "sha256": hashlib.sha256(body).hexdigest(),
                "expires": lower.get("x-signalpost-expires-at"),
                "valid": valid,
                "way": way,
                "acted": acts,
                "again": acts and not fresh,
                "said": said,
            }
        )
        return await _answer(writer, way, said)

    def _verified(
        self, name: str, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> bool:
        url = f"http://{self.authority.get(name, '')}{path}"
        secrets = [self._secrets[name]]
        try:
            for profile in Profile:
                verify(
                    method=method,
                    headers=headers,
                    body=body,
                    url=url,
                    secrets=secrets,
                    profile=profile,
                )
        except SignatureError:
            return False
        return True

    def _write(self, entry: dict[str, object]) -> None:
        os.write(self._log, json.dumps(entry).encode() + b"\n")
        os.fdatasync(self._log)


def _field(body: bytes, name: str) -> str | None:
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(body)[name])
    return None


def _said(way: str, *, fresh: bool, valid: bool) -> int | None:
    if not valid:
        return 401
    answers = {
        "ok": 201 if fresh else 200,
        "error": 500,
        "reject": 422,
        "busy": 429,
        "busy_date": 503,
        # Only what was acted on before is a conflict; anything else would be a lie.
        "conflict": 201 if fresh else 409,
        "garbage": None,
    }
    return answers.get(way)


async def _answer(writer: asyncio.StreamWriter, way: str, said: int | None) -> bool:
    """Answer, or do something worse; whether the connection can be used again."""
    if way in ("reset", "act_reset"):
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    if way == "timeout":
        await asyncio.sleep(60)
        return False
    if way == "garbage":
        writer.write(b"\x00\xff not HTTP at all\r\n\r\n")
        await writer.drain()
        return False
    if way == "drip":
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 600:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.1)
        return False
    extra = ""
    if way == "busy":
        extra = "Retry-After: 1\r\n"
    if way == "busy_date":
        soon = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        extra = f"Retry-After: {soon}\r\n"
    if way == "close":
        return False
    writer.write(f"HTTP/1.1 {said} X\r\n{extra}Content-Length: 2\r\n\r\nok".encode())
    await writer.drain()
    return True


async def run(folder: Path, seed: int, pairs: list[str]) -> None:
    """Serve until stdin ends."""
    receivers = Receivers(folder, seed, dict(pair.split("=", 1) for pair in pairs))
    server = await asyncio.start_server(receivers.talk, "127.0.0.1", 0, backlog=BACKLOG)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        receivers.order(json.loads(line))
        print(json.dumps({"did": True}), flush=True)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
