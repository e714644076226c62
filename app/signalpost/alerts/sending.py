"""Sending: claim an alert, hand its text to a courier, store the receipt or try again later."""

from __future__ import annotations

import asyncio
import html
import logging
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self, TypeVar

from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost.alerts.text import render
from signalpost.core.backoff import Backoff
from signalpost.repository import alerts as repository
from signalpost.repository.alerts import Notice
from signalpost.settings import Settings
from signalpost.telegram import Receipt, Refused, TelegramCourier

logger = logging.getLogger(__name__)

BACKOFF = Backoff(base_seconds=2, cap_seconds=60)
SLOW_SECONDS = 60.0
"""Between two tries while only a person can mend what is wrong."""

STATEMENT_SECONDS = 30.0
"""For one transaction; a server that stands still must not hold up all alerts for ever."""

_PASSING = (
    *(exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError),
    *(TimeoutError, OSError),
)
Result = TypeVar("Result")

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
    return TelegramCourier(token, chat_id, base_url=settings.ops_telegram_base_url)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one claimed alert.

    ``receipt`` is the courier's; None means that it was not sent, ``error`` says why, and it is
    due again in ``again_in_seconds``. ``quiet_seconds``: the courier must stay silent so long.
    """

    notice: Notice
    receipt: str | None
    error: str | None = None
    again_in_seconds: float | None = None
    quiet_seconds: float | None = None

    def line(self) -> str:
        """One line of key=value pairs, ids and labels only: fit for logs, Flower and results."""
        came = f"error={self.error}" if self.receipt is None else f"receipt={self.receipt}"
        return f"{_labels(self.notice)} {came}"


async def send_due(
    db: AsyncEngine,
    courier: Courier,
    *,
    alert_id: int | None = None,
    limit: int = 20,
    chance: Callable[[], float] = random.random,
    now: datetime | None = None,
) -> list[Sent]:
    """Send what is due, one after the other, each under a claim of its own.

    Args:
        db: the outbox.
        courier: takes the texts.
        alert_id: this alert only; nothing happens where it is sent, put off or claimed.
        limit: at most so many alerts.
        chance: draws from [0, 1) for the jitter of a retry.
        now: database time instead of the statements' own.

    Returns:
        One value for each claimed alert. The first that is refused ends the round: what hinders one
        message mostly hinders all.

    Raises:
        sqlalchemy.exc.SQLAlchemyError, TimeoutError: the database failed, or stood still, before
            anything was handed over.
    """
    results: list[Sent] = []
    for _ in range(limit if alert_id is None else 1):
        notice = await _commit(db, lambda c: repository.claim_alert(c, alert_id=alert_id, now=now))
        if notice is None:
            break
        match await courier.deliver(render(notice)):
            case Receipt() as receipt:
                results.append(await _keep_receipt(db, notice, receipt, now))
            case Refused() as refused:
                results.append(await _put_off(db, notice, refused, chance(), now))
                break
    return results


async def _commit(db: AsyncEngine, work: Callable[[Connection], Result]) -> Result:
    async with asyncio.timeout(STATEMENT_SECONDS), db.begin() as connection:
        return await connection.run_sync(work)


async def _keep_receipt(
    db: AsyncEngine, notice: Notice, receipt: Receipt, now: datetime | None
) -> Sent:
    # The operator has the message. Forgetting that because the database is away for a moment would
    # send it twice, so this waits until the database takes it, or until it is cancelled.
    waiting = False
    while True:
        try:
            await _commit(
                db, lambda c: repository.mark_sent(c, notice.alert_id, receipt.text, now=now)
            )
            break
        except _PASSING as error:
            if not waiting:
                logger.warning(
                    "alert sent, its receipt waits for the database: %s error=%s",
                    _labels(notice),
                    type(error).__name__,
                )
            waiting = True
            await asyncio.sleep(0.5)
    logger.info("alert sent: %s receipt=%s", _labels(notice), receipt.text)
    return Sent(notice, receipt.text)


async def _put_off(
    db: AsyncEngine, notice: Notice, refused: Refused, chance: float, now: datetime | None
) -> Sent:
    seconds = SLOW_SECONDS if refused.permanent else BACKOFF.delay(notice.tries - 1, chance)
    seconds = max(seconds, refused.retry_after_seconds or 0.0)
    logger.log(
        logging.ERROR if refused.permanent else logging.WARNING,
        "alert not sent: %s again_in=%.1fs reason=%s",
        _labels(notice),
        seconds,
        refused.reason,
    )
    await _commit(
        db,
        lambda c: repository.put_off(c, notice, seconds=seconds, error=refused.reason, now=now),
    )
    return Sent(
        notice,
        receipt=None,
        error=refused.reason,
        again_in_seconds=seconds,
        quiet_seconds=refused.retry_after_seconds,
    )


def _labels(notice: Notice) -> str:
    """What the alert is about, in the words of :class:`signalpost.reports.Report`."""
    pairs: dict[str, object] = {"alert": notice.alert_id, "kind": notice.kind}
    letter = notice.letter
    if letter is not None:
        pairs |= {
            "delivery": letter.delivery_id,
            "signal": letter.signal_id,
            "instrument": letter.instrument,
        }
    pairs["endpoint"] = notice.endpoint
    if letter is not None:
        pairs |= {
            "attempt": letter.attempts,
            "outcome": letter.last.outcome if letter.last else None,
            "status": letter.status,
        }
    pairs["try"] = notice.tries
    return " ".join(f"{name}={value}" for name, value in pairs.items() if value is not None)
