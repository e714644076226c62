"""What comes in on a connection, before aiohttp's parser sees it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from signalpost.core.outcomes import Failure
from signalpost.transport.progress import AttemptFailed

MAX_ANSWER_BYTES = 1024 * 1024
"""Of one exchange, heads and trailers included; of a body, reading stops far earlier."""
MAX_INFORMATIONAL = 32
"""Answers of class 1xx before the real one (RFC 9110, section 15.2); more is a storm."""
_HEAD_END = re.compile(rb"\n\r?\n")


class Listener(asyncio.Protocol):
    """Stands between a connection and aiohttp's protocol, for as long as the connection lives.

    It makes up for what aiohttp 3.14 does with an answer that goes wrong after its head, since a
    status once received decides whether a signal is sent again:

    * a head that comes in one piece with something unreadable is lost with it: heads are passed on
      by themselves;
    * an error found in the body is not told to who waits for the body: it is passed on.

    It also counts, so that a flood which never fills a buffer (chunk extensions, say) ends, and so
    that not a single byte said on an idle connection can begin the answer to the next request.
    """

    def __init__(self, inner: ResponseHandler, transport: asyncio.Transport) -> None:
        self._inner = inner
        self._transport = transport
        self._payload: StreamReader | None = None
        self._heads = 0
        self._tail = b""
        self._born_at = asyncio.get_running_loop().time()
        self.heard = 0
        """Bytes that came in since the last exchange ended, or since the present one began."""

    @property
    def age_seconds(self) -> float:
        """How long ago the connection was handed out for the first time."""
        return asyncio.get_running_loop().time() - self._born_at

    @classmethod
    def of(cls, inner: ResponseHandler, transport: asyncio.Transport) -> Listener:
        """The listener of a connection; a new connection gets its own."""
        present = transport.get_protocol()
        if isinstance(present, Listener):
            return present
        listener = cls(inner, transport)
        transport.set_protocol(listener)
        return listener

    def expect_answer(self) -> None:
        """An exchange begins."""
        self._heads = MAX_INFORMATIONAL + 1

    def follow(self, payload: StreamReader) -> None:
        """The answer's head has been read; errors in its body concern `payload` from now on."""
        self._payload = payload
        self._pass_on_error()

    def rest(self) -> None:
        """The exchange is over."""
        self._heads = 0
        self._tail = b""
        self._payload = None
        self.heard = 0

    def data_received(self, data: bytes) -> None:
        """As `asyncio.Protocol.data_received`."""
        self.heard += len(data)
        if self.heard > MAX_ANSWER_BYTES:
            self._stop(AttemptFailed(Failure.PROTOCOL, "an answer of more than 1 MiB"))
            return
        for piece in self._pieces(data):
            self._inner.data_received(piece)
        self._pass_on_error()

    def eof_received(self) -> bool | None:
        """As `asyncio.Protocol.eof_received`."""
        return cast("bool | None", self._inner.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """As `asyncio.Protocol.connection_lost`."""
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """As `asyncio.Protocol.pause_writing`."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """As `asyncio.Protocol.resume_writing`."""
        self._inner.resume_writing()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Cut after the blank line that may end a head, also one that began in the last data."""
        while self._heads:
            end = _HEAD_END.search(self._tail + data)
            if end is None:
                self._tail = (self._tail + data)[-2:]
                break
            self._heads -= 1
            cut = end.end() - len(self._tail)
            self._tail = b""
            yield data[:cut]
            data = data[cut:]
            if not data or self._transport.is_closing():
                return
        yield data

    def _pass_on_error(self) -> None:
        error = self._inner.exception()
        if isinstance(error, HttpProcessingError) and self._payload is not None:
            self._break_off(self._payload, aiohttp.ClientPayloadError(type(error).__name__))

    def _stop(self, error: AttemptFailed) -> None:
        self._inner.set_exception(error)
        if self._payload is not None:
            self._break_off(self._payload, error)
        self._transport.abort()

    @staticmethod
    def _break_off(payload: StreamReader, error: Exception) -> None:
        if not payload.is_eof() and payload.exception() is None:
            payload.set_exception(error)
