"""A receiver told to misbehave, so that a sender's retries can be seen at work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from signalpost.receiver.requests import Message, Receive, Scope, Send, answer, headers_of

__all__ = ["Misbehaving", "abortable_http"]

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ABORT = "signalpost.abort"


class Misbehaving:
    """Wraps an ASGI app; every attribute may be changed while it serves.

    Args:
        app: the well-behaved one.
        fail: how many of the next requests go wrong.
        fail_rate: the share of requests that goes wrong beside those, 0 to 1. With neither given,
            `status` and `drop` apply to every request.
        status: what a request that goes wrong is answered, unseen by the app (503 by default).
        drop: instead, the app acts on it and the connection is cut before the answer: the sender
            cannot know. Needs a server that can (`abortable_http`).
        delay_seconds: how much later every answer leaves.
        chance: draws from 0 to 1, for `fail_rate`.
        observer: told of each request that goes wrong, in words.
    """

    def __init__(
        self,
        app: App,
        *,
        fail: int = 0,
        fail_rate: float = 0.0,
        status: int | None = None,
        drop: bool = False,
        delay_seconds: float = 0.0,
        chance: Callable[[], float] = random.random,
        observer: Callable[[str], None] | None = None,
    ) -> None:
        self.app = app
        self.fail = fail
        self.fail_rate = fail_rate
        self.status = status
        self.drop = drop
        self.delay_seconds = delay_seconds
        self.always = not fail and not fail_rate and (drop or status is not None)
        self.failed = 0
        self._chance = chance
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, well or badly (ASGI 3)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif not self._goes_wrong():
            await self.app(scope, receive, self._late(send))
        elif self.drop:
            await self._cut_off(scope, receive)
        else:
            await self._turn_away(scope, receive, self._late(send))

    def _goes_wrong(self) -> bool:
        if self.fail > 0:
            self.fail -= 1
            wrong = True
        else:
            wrong = self.always or (self.fail_rate > 0 and self._chance() < self.fail_rate)
        self.failed += wrong
        return wrong

    def _late(self, send: Send) -> Send:
        async def late(message: Message) -> None:
            if self.delay_seconds and message["type"] == "http.response.start":
                await asyncio.sleep(self.delay_seconds)
            await send(message)

        return late

    async def _turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = self.status or 503
        self._tell(scope, f"answered {status} as told")
        while (message := await receive())["type"] == "http.request":
            if not message.get("more_body", False):
                break
        await answer(send, status, {"message": "told to misbehave"}, {})

    async def _cut_off(self, scope: Scope, receive: Receive) -> None:
        abort: Callable[[], None] | None = scope.get("extensions", {}).get(_ABORT)
        if abort is None:
            raise RuntimeError("this server cannot cut a connection; serve with abortable_http()")

        async def nowhere(message: Message) -> None:
            del message

        await self.app(scope, receive, nowhere)
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        self._tell(scope, "cut the connection as told")
        abort()

    def _tell(self, scope: Scope, what: str) -> None:
        if self._observer is not None:
            key = headers_of(scope).get("x-idempotency-key", "-")
            self._observer(f"{what} delivery={key[:64]!a}".replace("'", ""))


def abortable_http() -> type[asyncio.Protocol]:
    """A protocol for uvicorn's `http` setting that lets the app cut its connection."""
    from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: PLC0415  only where served

    class AbortableHttp(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # asyncio narrows it too
            served = self.app

            async def abortable(scope: Any, receive: Any, send: Any) -> None:
                extensions = {**scope.get("extensions", {}), _ABORT: transport.abort}
                await served({**scope, "extensions": extensions}, receive, send)

            self.app = abortable
            super().connection_made(transport)

    return AbortableHttp
