"""HTTP over aiohttp's connections, behind httpx's transport seam.

One request, one write, one answer: no retry, no redirect, no cookie, no proxy, no decompression.
docs/adr/0006-http-client.md says why this is neither httpx's own transport nor aiohttp's session.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence

import httpx
from aiohttp.abc import AbstractResolver
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

from signalpost.core.addresses import Network
from signalpost.core.outcomes import Failure, Phase
from signalpost.transport.connector import Connector, Lane, Origin
from signalpost.transport.failures import failed
from signalpost.transport.listener import MAX_INFORMATIONAL
from signalpost.transport.progress import AttemptFailed, LastCheck, Progress

KEEPALIVE_SECONDS = 30.0
LONGEST_SECONDS = 300.0
"""No connection older than this is used again."""
DNS_CACHE_SECONDS = 30
MAX_LINE_BYTES = 8190
MAX_HEADERS = 128
_READ_BYTES = 4096
_ONE_WRITE_BYTES = 64 * 1024
_CONTROLS = bytes({*range(32), 127} - {9})  # RFC 9110, section 5.5: of these a value may hold TAB
_DEFAULT_PORTS = {"http": 80, "https": 443}


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends a request to a permitted address and returns the answer, its body still unread.

    Belongs to the event loop of its first request. It honours two request extensions: `signalpost`,
    a :class:`Progress`, and `target`, the bytes of the request line's target (as httpcore does).

    Args:
        allow_networks: OUTBOUND_ALLOW_NETWORKS: the only networks reached by plain http, and the
            only private ones.
        ssl_context: verifies receivers; None takes the system's authorities. The transport owns it
            from then on.
        keepalive_seconds: how long an idle connection is kept.
        longest_seconds: how old a connection may be that is used again.
        dns_cache_seconds: how long an answer of the resolver is believed.
        resolver: asks for addresses; None asks the system.
    """

    reports_progress = True
    """Tells the sender that the phases in :class:`Progress` are exact."""

    def __init__(
        self,
        allow_networks: Sequence[Network] = (),
        *,
        ssl_context: ssl.SSLContext | None = None,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
        longest_seconds: float = LONGEST_SECONDS,
        dns_cache_seconds: int = DNS_CACHE_SECONDS,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allow_networks = tuple(allow_networks)
        self._ssl_context = ssl_context or ssl.create_default_context()
        self._ssl_context.minimum_version = max(
            self._ssl_context.minimum_version, ssl.TLSVersion.TLSv1_2
        )
        self._keepalive_seconds = keepalive_seconds
        self._longest_seconds = longest_seconds
        self._dns_cache_seconds = dns_cache_seconds
        self._resolver = resolver
        self._connector: Connector | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; httpx's seam.

        Raises:
            AttemptFailed: there is no answer, whatever the reason; `Progress` says how far it came.
        """
        progress = request.extensions.get("signalpost") or Progress()
        try:
            return await self._send(request, progress)
        except Exception as error:
            raise failed(error, progress.phase) from error

    async def aclose(self) -> None:
        """Drop every connection."""
        if self._connector is not None:
            await self._connector.close()

    async def _send(self, request: httpx.Request, progress: Progress) -> httpx.Response:
        head, body = _head(request), await _body(request)
        connector, origin = self._open_connector(), _origin(request.url)
        lane = await connector.connect(origin, progress)
        # From here to the last write nothing is awaited: what the check saw still holds.
        if progress.last_check is not None:
            _ask(progress.last_check, lane)
        try:
            lane.protocol.set_response_params(
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=_READ_BYTES,
                max_line_size=MAX_LINE_BYTES,
                max_field_size=MAX_LINE_BYTES,
                max_headers=MAX_HEADERS,
            )
            lane.listener.expect_answer()
            progress.advance(Phase.SENT)
            for part in [head + body] if len(body) <= _ONE_WRITE_BYTES else [head, body]:
                lane.write(part)
            progress.watch(lane.flushed)
            message, payload = await _answer(lane)
            progress.advance(Phase.HEADERS)
            connector.keep_session(origin, progress.tls, age_seconds=lane.listener.age_seconds)
            return httpx.Response(
                message.code,
                headers=list(message.raw_headers),
                stream=ResponseBody(lane, payload, progress),
            )
        except BaseException:
            progress.settle()
            lane.abort()
            raise

    def _open_connector(self) -> Connector:
        if self._connector is None:
            self._connector = Connector(
                self._allow_networks,
                self._ssl_context,
                keepalive_seconds=self._keepalive_seconds,
                longest_seconds=self._longest_seconds,
                dns_cache_seconds=self._dns_cache_seconds,
                resolver=self._resolver,
            )
        return self._connector


class ResponseBody(httpx.AsyncByteStream):
    """The body as it comes, undecoded; `aclose` decides whether the connection is used again."""

    def __init__(self, lane: Lane, payload: StreamReader, progress: Progress) -> None:
        self._lane: Lane | None = lane
        self._payload = payload
        self._progress = progress

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next bytes as they come, at most 4096."""
        self._progress.advance(Phase.BODY)
        try:
            chunk = await self._payload.read(_READ_BYTES)
        except Exception as error:
            raise failed(error, self._progress.phase) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Keep the connection if both sides have said all of this exchange, else drop it."""
        lane, self._lane = self._lane, None
        if lane is None:
            return
        self._progress.settle()
        if self._payload.is_eof() and self._progress.written:
            lane.give_back()
        else:
            lane.abort()


def _ask(last_check: LastCheck, lane: Lane) -> None:
    try:
        failure = last_check()
    except BaseException:
        lane.abort()
        raise
    if failure is not None:
        # The connection is as good as it was: nothing has been said on it.
        lane.give_back()
        raise AttemptFailed(failure, "stopped before the first byte")


async def _answer(lane: Lane) -> tuple[RawResponseMessage, StreamReader]:
    for _ in range(MAX_INFORMATIONAL + 1):
        message, payload = await lane.protocol.read()
        if not 100 <= message.code < 200 or message.code == 101:
            lane.listener.follow(payload)
            return message, payload
    raise AttemptFailed(Failure.PROTOCOL, f"more than {MAX_INFORMATIONAL} informational answers")


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in _DEFAULT_PORTS:
        raise httpx.UnsupportedProtocol("only http and https can be sent to")
    return Origin(url.scheme, url.raw_host.decode("ascii"), url.port or _DEFAULT_PORTS[url.scheme])


async def _body(request: httpx.Request) -> bytes:
    if isinstance(request.stream, httpx.ByteStream):
        return b"".join(request.stream)
    return await request.aread()


def _head(request: httpx.Request) -> bytes:
    target = request.extensions.get("target", request.url.raw_path)
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), target)]
    lines.extend(b"%s: %s" % header for header in request.headers.raw)
    joined = b" ".join(lines)
    if len(joined.translate(None, _CONTROLS)) != len(joined):
        raise httpx.LocalProtocolError("a header of ours holds a control character")
    return b"\r\n".join([*lines, b"", b""])
