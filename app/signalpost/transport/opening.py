"""The opening of one connection: guarded, and followed step by step.

aiohttp opens, encrypts and pools connections, and reports some steps; the rest is seen through
documented hooks: its socket factory, and the standard library's class of TLS objects.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from aiohttp.tracing import Trace

from signalpost.core.addresses import Network, allowed, odd_literal, read_address, refused
from signalpost.core.outcomes import Failure, Phase
from signalpost.transport.progress import AttemptFailed, Progress

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Answers are small. A fixed window keeps an endless body in the receiver's memory, not in ours.
_RECEIVE_BUFFER_BYTES = 64 * 1024


def refuse_disguise(host: str, progress: Progress) -> None:
    """Refuse a host that only the resolver would know for an address, such as 2130706433.

    Raises:
        AttemptFailed: it is one.
    """
    if odd_literal(host):
        progress.advance(Phase.CONNECT)
        raise AttemptFailed(Failure.ADDRESS, "the host is a number but no dotted IPv4 address")


class AddressRefused(OSError):
    """The gate refuses one address; others of the same name are tried."""


class Opening(Trace):
    """One attempt's way to a connection.

    aiohttp tells it of the steps that it traces. The gate and the TLS handshake find it in
    `current`: the tasks and callbacks that open a connection inherit the attempt's context.
    """

    current: ContextVar[Opening] = ContextVar("signalpost_opening")

    def __init__(self, progress: Progress, *, encrypted: bool) -> None:
        self.progress = progress
        self.encrypted = encrypted
        self.reused = False
        """An idle connection was taken instead."""
        self.refusal = ""
        """Why the gate refused the last address that it refused."""
        self.session: ssl.SSLSession | None = None
        """What the handshake may resume."""
        self.sockets = 0
        """How many addresses it let through."""

    async def send_connection_create_start(self) -> None:
        """The pool has no idle connection to the receiver."""

    async def send_connection_create_end(self) -> None:
        """The new connection stands."""

    async def send_connection_reuseconn(self) -> None:
        """The pool lends an idle connection."""
        self.reused = True

    async def send_dns_cache_hit(self, host: str) -> None:  # noqa: ARG002 - aiohttp's signature
        """The name is known, or already being asked for."""
        self.progress.advance(Phase.DNS)

    async def send_dns_cache_miss(self, host: str) -> None:  # noqa: ARG002 - aiohttp's signature
        """The name is not known."""
        self.progress.advance(Phase.DNS)

    async def send_dns_resolvehost_start(self, host: str) -> None:
        """The resolver is asked."""

    async def send_dns_resolvehost_end(self, host: str) -> None:
        """The resolver has answered."""


class WireSocket(socket.socket):
    """Knows whether the kernel has taken all that was written to it.

    asyncio hands over everything pending in each call, so the last call tells. Only the socket can:
    a TLS transport does not count what waits in the plain transport below it.
    """

    __slots__ = ("flushed",)

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self.flushed = True

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """As `socket.send`."""
        self.flushed = False
        count = super().send(data, flags)
        self.flushed = count == memoryview(data).nbytes
        return count

    def sendmsg(self, buffers: Any, /, *rest: Any) -> int:
        """As `socket.sendmsg`, by which asyncio of Python 3.12 and later sends what was left."""
        self.flushed = False
        parts = list(buffers)
        count = super().sendmsg(parts, *rest)
        self.flushed = count == sum(memoryview(part).nbytes for part in parts)
        return count


class MarkedHandshake(ssl.SSLObject):
    """Tells the attempt when its TLS handshake begins, and resumes the session that it knows."""

    def do_handshake(self) -> None:
        """As `SSLObject.do_handshake`."""
        opening = Opening.current.get(None)
        if opening is not None:
            opening.progress.advance(Phase.TLS)
            if opening.session is not None:
                # Before the first flight; asyncio calls this for each one.
                self.session, opening.session = opening.session, None
        super().do_handshake()


class Gate:
    """Opens sockets to permitted addresses only.

    Args:
        allow_networks: OUTBOUND_ALLOW_NETWORKS.
    """

    def __init__(self, allow_networks: Sequence[Network]) -> None:
        self._allow_networks = tuple(allow_networks)
        # By file descriptor: the latest socket of a number is the one that is open.
        self._sockets: WeakValueDictionary[int, WireSocket] = WeakValueDictionary()

    def open_socket(self, info: tuple[Any, ...]) -> WireSocket:
        """The socket for one address; aiohttp asks for every one before it connects, literals too.

        Raises:
            AddressRefused: nothing may be sent there.
        """
        family, kind, protocol, _, address = info
        opening = Opening.current.get()
        opening.progress.advance(Phase.CONNECT)
        reason = self._refusal(str(address[0]), encrypted=opening.encrypted)
        if reason is not None:
            opening.refusal = f"{address[0]} is {reason}; see OUTBOUND_ALLOW_NETWORKS"
            raise AddressRefused(opening.refusal)
        opening.sockets += 1
        sock = WireSocket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._sockets[sock.fileno()] = sock
        return sock

    def socket_of(self, transport: asyncio.Transport) -> WireSocket | None:
        """The socket below a transport, or None once it is closed."""
        return self._sockets.get(transport.get_extra_info("socket").fileno())

    def _refusal(self, host: str, *, encrypted: bool) -> str | None:
        ip = read_address(host)
        if ip is None:
            return "no IP address"
        if not encrypted and not allowed(ip, self._allow_networks):
            return refused(ip) or "reached by plain http"
        return refused(ip, self._allow_networks)
