"""What the Bot API says and takes, as https://core.telegram.org/bots/api has it."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from signalpost.demo.telegram_faults import Fault

__all__ = ["CHAT", "Message", "bot", "markup_problem", "plain", "refused", "result", "shown"]

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
        return plain(self.text)


def plain(text: str) -> str:
    """Marked-up text as a person reads it."""
    return html.unescape(_TAG.sub("", text))


def markup_problem(text: str) -> str | None:
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


CHAT: Mapping[str, Any] = {
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


def bot() -> dict[str, Any]:
    """What getMe tells."""
    return {"id": 1, "is_bot": True, "first_name": "signalpost", "username": "signalpost_bot"}


def shown(message: Message) -> dict[str, Any]:
    """What sendMessage and editMessageText tell of a message."""
    return {
        "message_id": message.message_id,
        "date": int(time.time()),
        "chat": {"id": int(message.chat_id), "type": "private"},
        "from": bot(),
        "text": message.plain,
    }


def result(content: Mapping[str, Any]) -> web.Response:
    """A method's good answer."""
    return web.json_response({"ok": True, "result": content})


def refused(status: int, description: str, fault: Fault | None = None) -> web.Response:
    """A method's refusal, with what the fault adds to it."""
    answer: dict[str, Any] = {"ok": False, "error_code": status, "description": description}
    if fault is not None and fault.retry_after is not None:
        answer["parameters"] = {"retry_after": fault.retry_after}
    if fault is not None and fault.migrate_to is not None:
        answer["parameters"] = {"migrate_to_chat_id": fault.migrate_to}
    return web.json_response(answer, status=status)
