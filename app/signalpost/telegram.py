"""The Telegram courier: one message to the operator's chat, answered by a receipt or a refusal."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from telegram import Bot, LinkPreviewOptions
from telegram.constants import ParseMode
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Forbidden,
    InvalidToken,
    TelegramError,
    TimedOut,
)
from telegram.request import HTTPXRequest

from signalpost.core.receipts import Receipt, Refused
from signalpost.logs import Without

logger = logging.getLogger(__name__)

API_URL = "https://api.telegram.org"
SPACING_SECONDS = 1.0
"""Between two messages to one chat (Bot API FAQ: avoid more than one a second)."""
TIMEOUT_SECONDS = 20.0
"""For one message, all steps together; well below the lease of an alert."""
LONGEST_PAUSE_SECONDS = 3600.0

_QUIET_LOGGERS = ("httpx", "httpcore", "telegram")
_UNREADABLE = ("parse entities", "too long", "text is empty")
_URL_LOGGERS = ("httpx", "telegram.Bot", "telegram.request.BaseRequest")


@dataclass(frozen=True, slots=True)
class Introduced:
    """The bot's name and the chat's, as Telegram knows them."""

    bot: str
    chat: str


class TelegramCourier:
    """Sends messages by a bot to one chat; belongs to the event loop that first uses it.

    Args:
        token: the bot's token.
        chat_id: the operator's chat.
        base_url: a Bot API server instead of Telegram's own, such as ``http://127.0.0.1:8081``.
        timeout_seconds: for one message.
        spacing_seconds: the least time between two messages.
        monotonic: seconds, for the spacing.

    Proxy variables of the environment (``HTTPS_PROXY``, ``NO_PROXY``) are honoured here, and only
    here: Telegram is often reachable through a proxy alone. They are not for a server on loopback.
    """

    def __init__(
        self,
        token: str,
        chat_id: str,
        *,
        base_url: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        spacing_seconds: float = SPACING_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        _hush(token)
        self._token = token
        self._chat_id = chat_id
        self._timeout_seconds = timeout_seconds
        self._spacing_seconds = spacing_seconds
        self._monotonic = monotonic
        self._next_at = monotonic()
        self._turn = asyncio.Lock()
        self._request = _Request(
            connection_pool_size=2,
            read_timeout=timeout_seconds,
            write_timeout=timeout_seconds,
            connect_timeout=timeout_seconds,
            pool_timeout=timeout_seconds,
            httpx_kwargs={"trust_env": not _is_loopback(base_url or API_URL)},
        )
        # The same object for updates, which are never asked for: it saves a second TLS context.
        self._bot = Bot(
            token,
            base_url=_bot_url(base_url or API_URL),
            request=self._request,
            get_updates_request=self._request,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._request.shutdown()

    async def deliver(self, text_html: str) -> Receipt | Refused:
        """Send one message (Telegram's HTML); returns the message's id or why there is none."""
        async with self._turn:
            await asyncio.sleep(max(0.0, self._next_at - self._monotonic()))
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    return await self._post(text_html)
            except ChatMigrated as error:
                return self._follow(error.new_chat_id)
            except (TelegramError, TimeoutError) as error:
                return _refusal(error, self._token)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                # The library takes a well-formed answer for granted, a captive portal's is not.
                return Refused(f"the answer was not the Bot API's ({type(error).__name__})")
            finally:
                self._next_at = self._monotonic() + self._spacing_seconds

    async def introduce(self) -> Introduced | Refused:
        """Ask Telegram who the bot is and whether it knows the chat; nothing is sent."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                bot = await self._bot.get_me()
                chat = await self._bot.get_chat(self._chat_id)
        except (BadRequest, Forbidden) as error:
            return Refused(
                f"Telegram does not know the chat ({_said(error, self._token)}); correct "
                "OPS_TELEGRAM_CHAT_ID, and let the bot into the chat",
                permanent=True,
            )
        except ChatMigrated as error:
            return self._follow(error.new_chat_id)
        except (TelegramError, TimeoutError) as error:
            return _refusal(error, self._token)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return Refused(f"the answer was not the Bot API's ({type(error).__name__})")
        return Introduced(f"@{bot.username}", f"the {chat.type} chat {self._chat_id}")

    async def _post(self, text_html: str) -> Receipt:
        # No Bot.initialize(): its errors carry the token, and asking getMe proves nothing here.
        message = await self._bot.send_message(
            chat_id=self._chat_id,
            text=text_html,
            parse_mode=ParseMode.HTML,
            link_preview_options=LinkPreviewOptions(is_disabled=True),
        )
        return Receipt(str(message.message_id))

    def _follow(self, chat_id: int) -> Refused:
        # Telegram names the new chat itself; following it now is worth more than waiting for a
        # person to read that the setting is out of date.
        self._chat_id = str(chat_id)
        reason = f"the chat became a supergroup; set OPS_TELEGRAM_CHAT_ID to {chat_id}"
        logger.warning("telegram: %s (used from now on until the next start)", reason)
        return Refused(reason)


def _refusal(error: TelegramError | TimeoutError, token: str) -> Refused:
    said = _said(error, token)
    match error:
        case _PauseAsked():
            return Refused("Telegram asks for a pause", retry_after_seconds=error.seconds)
        case InvalidToken():
            return Refused(
                f"Telegram refuses the bot's token ({said}); correct OPS_TELEGRAM_BOT_TOKEN",
                permanent=True,
            )
        case BadRequest() if any(word in said.lower() for word in _UNREADABLE):
            return Refused(f"Telegram does not take the text ({said})", unreadable=True)
        case BadRequest() | Forbidden():
            return Refused(
                f"Telegram refuses the message ({said}); check OPS_TELEGRAM_CHAT_ID and that the "
                "bot may write to this chat",
                permanent=True,
            )
        case TimedOut() | TimeoutError():
            return Refused("Telegram did not answer in time; the message may have arrived")
        case _:
            return Refused(f"Telegram cannot be reached or fails ({said})")


def _said(error: Exception, token: str) -> str:
    return " ".join(str(error).replace(token, "<token>").split())[:200]


class _PauseAsked(TelegramError):
    """Too many requests: nothing may be sent for `seconds`, where Telegram says for how long."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__("Too Many Requests")
        self.seconds = seconds


class _Request(HTTPXRequest):
    """Reads a 429 by itself: the library's own error for it cannot be made without a warning."""

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        code, payload = await super().do_request(*args, **kwargs)
        if code == 429:
            raise _PauseAsked(_pause_seconds(payload))
        return code, payload


def _pause_seconds(payload: bytes) -> float | None:
    try:
        seconds = float(json.loads(payload)["parameters"]["retry_after"])
    except (KeyError, TypeError, ValueError):
        return None
    return min(seconds, LONGEST_PAUSE_SECONDS) if seconds > 0 else None


def _bot_url(base_url: str) -> str:
    stripped = base_url.rstrip("/")
    return stripped if stripped.endswith("/bot") else f"{stripped}/bot"


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hush(token: str) -> None:
    # These libraries log request URLs, and Telegram's URLs hold the token.
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _URL_LOGGERS:
        logging.getLogger(name).addFilter(Without(token))
