"""Couriers: who brings a text to the operator."""

from __future__ import annotations

import html
import logging
import re
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from signalpost.core.receipts import Receipt, Refused
from signalpost.settings import Settings

if TYPE_CHECKING:
    from signalpost.telegram import TelegramCourier

__all__ = ["Courier", "LogCourier", "courier_for"]

logger = logging.getLogger(__name__)

_TAG = re.compile(r"<[^>]*>")


class Courier(Protocol):
    """Brings a text to the operator; the one seam between alerts and the world."""

    async def deliver(self, text_html: str) -> Receipt | Refused:
        """Bring the text; never raises for what can be expected of a network."""
        ...


class LogCourier:
    """Where no Telegram is set up, the warning in the log is the receipt."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    async def deliver(self, text_html: str) -> Receipt | Refused:
        """Log the text as one line; returns the receipt ``log``."""
        plain = html.unescape(_TAG.sub("", text_html)).replace("\n", " | ")
        logger.warning("ALERT %s", plain)
        return Receipt("log")


def courier_for(settings: Settings) -> TelegramCourier | LogCourier:
    """Choose the courier that the settings ask for; enter it (``async with``) before use."""
    token, chat_id = settings.ops_telegram_bot_token, settings.ops_telegram_chat_id
    if not token or not chat_id:
        return LogCourier()
    # Few processes send alerts, and every worker would load it.
    from signalpost.telegram import TelegramCourier  # noqa: PLC0415 - as said

    return TelegramCourier(token, chat_id, base_url=settings.ops_telegram_base_url)
