"""A stand-in for the Telegram Bot API: real HTTP on loopback, for the demo and the tests.

It answers getMe, sendMessage and editMessageText as https://core.telegram.org/bots/api describes
them, keeps what it accepted, refuses markup that Telegram would refuse, and fails on demand.
"""

from __future__ import annotations

import asyncio
import hmac
import html
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from aiohttp import web

_LONGEST_TEXT = 4096
_TAG = re.compile(r"<(/?)([a-z-]+)(?: [^<>]*)?>")
_TAGS = frozenset({"a", "b", "blockquote", "code", "em", "i", "pre", "s", "strong", "u"})


@dataclass(frozen=True, slots=True)
class Message:
    """A message that the stand-in accepted; ``received_at`` in monotonic seconds."""

    message_id: int
    chat_id: str
    text: str
    received_at: float

    @property
    def plain(self) -> str:
        """The text as a person reads it."""
        return html.unescape(_TAG.sub("", self.text))


@dataclass(frozen=True, slots=True)
class Fault:
    """How a request is to go wrong.

    ``status`` and ``description``: the refusal (0: none). ``retry_after``: seconds, for 429.
    ``delay_seconds``: wait first. ``accept``: the message is kept nevertheless. ``drop``: the
    connection is cut instead of an answer. ``raw``: answer this instead of JSON.
    ``migrate_to``: the chat has become that supergroup.
    """

    status: int = 0
    description: str = ""
    retry_after: int | None = None
    delay_seconds: float = 0.0
    accept: bool = False
    drop: bool = False
    raw: str | None = None
    migrate_to: int | None = None


WRONG_CHAT = Fault(400, "Bad Request: chat not found")
WRONG_TOKEN = Fault(401, "Unauthorized")
BLOCKED = Fault(403, "Forbidden: bot was blocked by the user")
BAD_GATEWAY = Fault(502, "Bad Gateway")
CUT = Fault(drop=True)
CUT_AFTER_ACCEPTING = Fault(drop=True, accept=True)


def too_many(retry_after: int) -> Fault:
    """Answer 429 with so many seconds to wait."""
    description = f"Too Many Requests: retry after {retry_after}"
    return Fault(429, description, retry_after=retry_after)


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
            return _refused(401, "Unauthorized")
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
            answer = _refused(fault.status or 400, fault.description, fault)
        if fault.drop and request.transport is not None:
            request.transport.abort()
        return answer if fault.raw is None else web.Response(text=fault.raw)

    def _act(self, method: str, values: Mapping[str, Any]) -> web.Response:
        match method:
            case "getMe":
                return _result(_bot())
            case "getChat":
                return self._chat(values)
            case "sendMessage":
                return self._send(values)
            case "editMessageText":
                return self._edit(values)
            case _:
                return _refused(404, "Not Found: method not found")

    def _chat(self, values: Mapping[str, Any]) -> web.Response:
        if str(values.get("chat_id")) != self.chat_id:
            return _refused(400, "Bad Request: chat not found")
        return _result({**_CHAT, "id": int(self.chat_id)})

    def _send(self, values: Mapping[str, Any]) -> web.Response:
        if (problem := self._problem(values)) is not None:
            return _refused(400, f"Bad Request: {problem}")
        number = len(self.messages) + 1
        message = Message(number, self.chat_id, values["text"], time.monotonic())
        self.messages.append(message)
        return _result(_shown(message))

    def _edit(self, values: Mapping[str, Any]) -> web.Response:
        if (problem := self._problem(values)) is not None:
            return _refused(400, f"Bad Request: {problem}")
        wanted = str(values.get("message_id"))
        for place, message in enumerate(self.messages):
            if str(message.message_id) != wanted:
                continue
            if message.text == values["text"]:
                return _refused(400, "Bad Request: message is not modified")
            self.messages[place] = replace(message, text=values["text"])
            return _result(_shown(self.messages[place]))
        return _refused(400, "Bad Request: message to edit not found")

    def _problem(self, values: Mapping[str, Any]) -> str | None:
        if str(values.get("chat_id")) != self.chat_id:
            return "chat not found"
        text = values.get("text") or ""
        if not text.strip():
            return "message text is empty"
        marked_up = values.get("parse_mode") == "HTML"
        if marked_up and (problem := _markup_problem(text)) is not None:
            return f"can't parse entities: {problem}"
        shown = html.unescape(_TAG.sub("", text)) if marked_up else text
        return "message is too long" if len(shown) > _LONGEST_TEXT else None


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


def _markup_problem(text: str) -> str | None:
    """What Telegram's HTML parser would refuse: unknown, unclosed and stray tags."""
    opened: list[str] = []
    position = 0
    while (position := text.find("<", position)) >= 0:
        tag = _TAG.match(text, position)
        if tag is None or tag[2] not in _TAGS:
            return f"unsupported start tag at byte offset {len(text[:position].encode())}"
        if not tag[1]:
            opened.append(tag[2])
        elif not opened or opened.pop() != tag[2]:
            return f"unmatched end tag at byte offset {len(text[:position].encode())}"
        position = tag.end()
    return f"can't find end tag of {opened[-1]}" if opened else None


_CHAT: Mapping[str, Any] = {
    "type": "private",
    "accent_color_id": 0,
    "max_reaction_count": 11,
    "accepted_gift_types": dict.fromkeys(
        (
            "unlimited_gifts",
            "limited_gifts",
            "unique_gifts",
            "premium_subscription",
            "gifts_from_channels",
        ),
        False,
    ),
}


def _bot() -> dict[str, Any]:
    return {"id": 1, "is_bot": True, "first_name": "signalpost", "username": "signalpost_bot"}


def _shown(message: Message) -> dict[str, Any]:
    return {
        "message_id": message.message_id,
        "date": int(time.time()),
        "chat": {"id": int(message.chat_id), "type": "private"},
        "from": _bot(),
        "text": message.plain,
    }


def _result(result: Mapping[str, Any]) -> web.Response:
    return web.json_response({"ok": True, "result": result})


def _refused(status: int, description: str, fault: Fault | None = None) -> web.Response:
    answer: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    if fault is not None and fault.retry_after is not None:
        answer["parameters"] = {"retry_after": fault.retry_after}
    if fault is not None and fault.migrate_to is not None:
        answer["parameters"] = {"migrate_to_chat_id": fault.migrate_to}
    return web.json_response(answer, status=status)
