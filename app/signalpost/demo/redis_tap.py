"""Everything that Redis is told during the demo, and everything that is left in it at the end.

MONITOR shows what keys no longer do: messages that were taken, events that were published, results
that have expired.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import redis

__all__ = ["RedisTap", "left_in_redis"]


class RedisTap:
    """Listens to every command that a Redis server gets; a context manager."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 6379), 5)
        password = unquote(parts.password or "").encode()
        self._socket.sendall(b"AUTH %s\r\nMONITOR\r\n" % password)
        self._socket.settimeout(None)
        self._heard = bytearray()
        self._thread = threading.Thread(target=self._listen, name="redis-tap", daemon=True)
        self._thread.start()

    def content(self) -> bytes:
        """Everything heard so far, as MONITOR writes it."""
        return bytes(self._heard)

    def close(self) -> None:
        """Listen no longer; what was heard stays."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while received := self._socket.recv(65536):
                self._heard += received


def left_in_redis(url: str) -> dict[str, bytes]:
    """Read every key with all that it holds."""
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        keys: list[bytes] = list(client.scan_iter(count=1000))
        return {key.decode(errors="replace"): b"\n".join(_values(client, key)) for key in keys}


def _values(client: Any, key: bytes) -> Iterator[bytes]:
    # Any, because the client's types leave open whether replies are decoded.
    yield key
    match client.type(key):
        case b"string":
            yield client.get(key) or b""
        case b"list":
            yield from client.lrange(key, 0, -1)
        case b"set":
            yield from client.smembers(key)
        case b"zset":
            yield from client.zrange(key, 0, -1)
        case b"hash":
            for name, value in client.hgetall(key).items():
                yield from (name, value)
        case other:
            yield b"(%s: not read)" % other
