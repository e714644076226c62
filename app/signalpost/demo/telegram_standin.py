"""A stand-in for the Telegram Bot API: real HTTP on loopback, for the demo and the tests.

It answers getMe, sendMessage and editMessageText as https://core.telegram.org/bots/api describes
them, keeps what it accepted, refuses markup that Telegram would refuse, and fails on demand.
"""

from __future__ import annotations

import asyncio
import hmac
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from signalpost.demo.telegram_faults import (
    BAD_GATEWAY,
    BLOCKED,
    CUT,
    CUT_AFTER_ACCEPTING,
    WRONG_CHAT,
    WRONG_TOKEN,
    Fault,
    too_many,
)
from signalpost.demo.telegram_wire import (
    CHAT,
    Message,
    bot,
    markup_problem,
    plain,
    refused,
    result,
    shown,
)

__all__ = [
    "BAD_GATEWAY",
    "BLOCKED",
    "CUT",
    "CUT_AFTER_ACCEPTING",
    "WRONG_CHAT",
    "WRONG_TOKEN",
    "Fault",
    "Message",
    "TelegramStandIn",
    "running_standin",
    "too_many",
]

_LONGEST_TEXT = 4096


class TelegramStandIn:
    """One bot and one chat on a loopback port; everything else is refused as Telegram does."""

    def __init__(self, *, token: str, chat_id: str, port: int = 0) -> None:
        self.token = token
        self.chat_id = chat_id
        self.messages: list[Message] = []
        self.calls: list[tuple[str, float]] = []
        """Every request that carried the right token: its method and monotonic second."""
        self._port = port
        self._faults: deque[Fault] = deque()
        self._lasting: Fault | None = None
        app = web.Application()
        app.router.add_route("*", "/bot{token}/{method}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    @property
    def base_url(self) -> str:
        """What OPS_TELEGRAM_BASE_URL must be."""
        return f"http://127.0.0.1:{self._port}"

    def fail(self, *faults: Fault) -> None:
        """Let the next requests fail, one fault each."""
        self._faults.extend(faults)

    def fail_until_healed(self, fault: Fault) -> None:
        """Let every request fail, after those that ``fail`` has spoken for."""
        self._lasting = fault

    def heal(self) -> None:
        """Forget all faults."""
        self._faults.clear()
        self._lasting = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if not hmac.compare_digest(request.match_info["token"], self.token):
            return refused(401, "Unauthorized")
        method = request.match_info["method"]
        self.calls.append((method, time.monotonic()))
        values = await _values(request)
        fault = self._faults.popleft() if self._faults else self._lasting
        if fault is None:
            return self._act(method, values)
        await asyncio.sleep(fault.delay_seconds)
        if fault.accept or not (fault.status or fault.drop or fault.raw or fault.migrate_to):
            answer = self._act(method, values)
        else:
            answer = refused(fault.status or 400, fault.description, fault)
        if fault.drop and request.transport is not None:
            request.transport.abort()
        return answer if fault.raw is None else web.Response(text=fault.raw)

    def _act(self, method: str, values: Mapping[str, Any]) -> web.Response:
        match method:
            case "getMe":
                return result(bot())
            case "getChat":
                return self._chat(values)
            case "sendMessage":
                return self._send(values)
            case "editMessageText":
                return self._edit(values)
            case _:
                return refused(404, "Not Found: method not found")

    def _chat(self, values: Mapping[str, Any]) -> web.Response:
        if str(values.get("chat_id")) != self.chat_id:
            return refused(400, "Bad Request: chat not found")
        return result({**CHAT, "id": int(self.chat_id)})

    def _send(self, values: Mapping[str, Any]) -> web.Response:
        if (problem := self._problem(values)) is not None:
            return refused(400, f"Bad Request: {problem}")
        number = len(self.messages) + 1
        message = Message(number, self.chat_id, values["text"], time.monotonic())
        self.messages.append(message)
        return result(shown(message))

    def _edit(self, values: Mapping[str, Any]) -> web.Response:
        if (problem := self._problem(values)) is not None:
            return refused(400, f"Bad Request: {problem}")
        wanted = str(values.get("message_id"))
        for place, message in enumerate(self.messages):
            if str(message.message_id) != wanted:
                continue
            if message.text == values["text"]:
                return refused(400, "Bad Request: message is not modified")
            self.messages[place] = replace(message, text=values["text"])
            return result(shown(self.messages[place]))
        return refused(400, "Bad Request: message to edit not found")

    def _problem(self, values: Mapping[str, Any]) -> str | None:
        if str(values.get("chat_id")) != self.chat_id:
            return "chat not found"
        text = values.get("text") or ""
        if not text.strip():
            return "message text is empty"
        marked_up = values.get("parse_mode") == "HTML"
        if marked_up and (problem := markup_problem(text)) is not None:
            return f"can't parse entities: {problem}"
        seen = plain(text) if marked_up else text
        return "message is too long" if len(seen) > _LONGEST_TEXT else None


@contextmanager
def running_standin(*, token: str, chat_id: str, port: int = 0) -> Iterator[TelegramStandIn]:
    """Run a stand-in in a thread of its own, for callers without an event loop."""
    standin = TelegramStandIn(token=token, chat_id=chat_id, port=port)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="telegram-standin", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(standin.__aenter__(), loop).result(10)
        try:
            yield standin
        finally:
            ending = standin.__aexit__(None, None, None)
            asyncio.run_coroutine_threadsafe(ending, loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _values(request: web.Request) -> Mapping[str, Any]:
    if request.content_type == "application/json":
        decoded = await request.json()
        return decoded if isinstance(decoded, dict) else {}
    return {**request.query, **await request.post()}
