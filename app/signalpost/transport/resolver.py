"""Names to addresses."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

_THREADS = 32


class ThreadResolver(AbstractResolver):
    """The system's resolver, in threads of its own.

    asyncio's default threads are few and shared: a handful of names whose servers do not answer
    would hold up the resolving, and so the deliveries, of every other endpoint.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "signalpost-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host`; raises OSError if there are none."""
        ask = partial(
            socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Forget the names still waited for; a look-up under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
