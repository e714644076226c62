"""Connections to receivers, checked once more as they are handed out.

aiohttp opens, verifies and pools them (docs/adr/0006-http-client.md lists what is used of it).
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Sequence
from errno import ECONNRESET
from functools import lru_cache
from os import strerror
from typing import NamedTuple

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection

from signalpost.core.addresses import Network
from signalpost.core.outcomes import Failure
from signalpost.transport.listener import Listener
from signalpost.transport.opening import Gate, MarkedHandshake, Opening, WireSocket, refuse_disguise
from signalpost.transport.progress import AttemptFailed, Progress
from signalpost.transport.resolver import ThreadResolver

# The attempt's own deadline, around everything, is the only one: aiohttp's round up.
_NO_TIMEOUTS = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
SESSION_SECONDS = 3600.0
"""A TLS session is resumed for so long at most: then the receiver proves anew who it is."""
MOST_SESSIONS = 4096
_CLOSED = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)  # macOS has no RDHUP


class Origin(NamedTuple):
    """Whom a connection is to."""

    scheme: str
    host: str
    port: int


class Lane:
    """One connection, lent to one attempt."""

    def __init__(
        self,
        connection: Connection,
        protocol: ResponseHandler,
        transport: asyncio.Transport,
        sock: WireSocket,
        longest_seconds: float,
    ) -> None:
        self.protocol = protocol
        self.listener = Listener.of(protocol, transport)
        self._connection = connection
        self._transport = transport
        self._socket = sock
        self._longest_seconds = longest_seconds

    def quiet(self, *, tickets: bool) -> bool:
        """Whether the receiver has neither spoken nor hung up, as the kernel knows it now.

        Args:
            tickets: it may have sent TLS session tickets, which look like speech from outside.
        """
        if self.listener.heard or self.protocol.should_close or self._transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self._socket, _CLOSED if tickets else _CLOSED | select.POLLIN)
        return not poll.poll(0)

    def write(self, data: bytes) -> None:
        """Hand over bytes of the request; never waits."""
        self._transport.write(data)

    def flushed(self) -> bool:
        """Whether all that was written has left for the kernel."""
        return self._socket.flushed and self._transport.get_write_buffer_size() == 0

    def give_back(self) -> None:
        """Keep the connection for the next attempt if it is fit for one, else drop it."""
        if self.protocol.should_close or self.listener.age_seconds >= self._longest_seconds:
            self.abort()
        else:
            self.listener.rest()
            self._connection.release()

    def abort(self) -> None:
        """Drop the connection and every byte not yet sent.

        Closing it instead would still send them, and over TLS wait for a farewell that a hostile
        receiver never says.
        """
        self._transport.abort()
        self._connection.close()


class Connector:
    """Opens connections to permitted addresses only, and keeps them for reuse.

    To be made inside the event loop that uses it.

    Args:
        allow_networks: OUTBOUND_ALLOW_NETWORKS.
        ssl_context: verifies receivers; from now on it belongs to this connector.
        keepalive_seconds: how long an idle connection is kept.
        longest_seconds: how old a connection may be that is used again, so that a receiver which
            has moved, or a balancer with a new host, is found.
        dns_cache_seconds: how long an answer of the resolver is believed.
        resolver: asks for addresses; None asks the system.
    """

    def __init__(
        self,
        allow_networks: Sequence[Network],
        ssl_context: ssl.SSLContext,
        *,
        keepalive_seconds: float,
        longest_seconds: float,
        dns_cache_seconds: int,
        resolver: AbstractResolver | None,
    ) -> None:
        self._gate = Gate(allow_networks)
        self._resolver = resolver or ThreadResolver()
        ssl_context.sslobject_class = MarkedHandshake
        # No limits: how many attempts run at once is the engine's decision.
        self._pool = aiohttp.TCPConnector(
            ssl=ssl_context,
            limit=0,
            keepalive_timeout=keepalive_seconds,
            ttl_dns_cache=dns_cache_seconds,
            resolver=self._resolver,
            socket_factory=self._gate.open_socket,
        )
        self._longest_seconds = longest_seconds
        self._sessions: dict[Origin, tuple[ssl.SSLSession, float]] = {}
        self._asked = lru_cache(maxsize=4096)(_connection_request)

    async def connect(self, origin: Origin, progress: Progress) -> Lane:
        """A connection to `origin` that is fit for a first byte in this very event-loop step.

        A kept connection that the receiver has closed or spoken on is replaced: nothing was written
        to it, so that costs no attempt, and what it pushed is never taken for an answer.

        Raises:
            AttemptFailed: the address is refused, or a new connection was closed or spoken on.
            Exception: of aiohttp, of the resolver, or OSError.
        """
        encrypted = origin.scheme == "https"
        refuse_disguise(origin.host, progress)
        while True:
            opening = Opening(progress, encrypted=encrypted)
            lane = await self._lend(origin, opening)
            if lane.quiet(tickets=encrypted and not opening.reused):
                return lane
            lane.abort()
            if not opening.reused:
                raise AttemptFailed(Failure.RESET, "closed or spoken on before the request")

    async def close(self) -> None:
        """Drop every connection, lent ones too."""
        await self._pool.close()
        await self._resolver.close()

    async def _lend(self, origin: Origin, opening: Opening) -> Lane:
        opening.session = self._session(origin)
        token = Opening.current.set(opening)
        try:
            connection = await self._pool.connect(self._asked(origin), [opening], _NO_TIMEOUTS)
        except aiohttp.ClientConnectorError:
            self._forget(origin)
            if opening.refusal and not opening.sockets:
                raise AttemptFailed(Failure.ADDRESS, opening.refusal) from None
            raise
        except KeyError:
            # aiohttp's answer of the resolver was forgotten after it came and before it was read.
            return await self._lend(origin, opening)
        except BaseException:
            # Cut while the name was looked up, say: that tells nothing against what is known.
            if opening.sockets:
                self._forget(origin)
            raise
        finally:
            Opening.current.reset(token)
        protocol, transport = connection.protocol, connection.transport
        if protocol is not None and transport is not None:
            sock = self._gate.socket_of(transport)
            if sock is not None:
                opening.progress.tls = transport.get_extra_info("ssl_object")
                return Lane(connection, protocol, transport, sock, self._longest_seconds)
        connection.close()
        raise ConnectionResetError(ECONNRESET, strerror(ECONNRESET))

    def keep_session(
        self, origin: Origin, tls: ssl.SSLObject | None, *, age_seconds: float
    ) -> None:
        """Remember the TLS session of a connection on which an answer came.

        By then its tickets have come too (RFC 8446, section 4.6.1). The next connection to the same
        host and port resumes it, which spares both sides the certificate's check. Its own age is
        that of the last whole handshake; `age_seconds` is the connection's.
        """
        session = None if tls is None else tls.session
        if session is None or not session.has_ticket:
            return
        since = asyncio.get_running_loop().time() - age_seconds
        known = self._sessions.pop(origin, None)
        if tls is not None and tls.session_reused:
            if known is None:
                return
            since = min(since, known[1])
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[origin] = (session, since)

    def _session(self, origin: Origin) -> ssl.SSLSession | None:
        session, since = self._sessions.get(origin, (None, 0.0))
        if session is not None and asyncio.get_running_loop().time() - since >= SESSION_SECONDS:
            del self._sessions[origin]
            return None
        return session

    def _forget(self, origin: Origin) -> None:
        """Believe nothing any more of a receiver that could not be reached."""
        self._pool.clear_dns_cache(origin.host, origin.port)
        self._sessions.pop(origin, None)


def _connection_request(origin: Origin) -> ClientRequest:
    """What aiohttp's pool wants to know of a receiver; it is never sent."""
    url = yarl.URL.build(scheme=origin.scheme, host=origin.host, port=origin.port, path="/")
    return ClientRequest("POST", url, loop=asyncio.get_running_loop())
