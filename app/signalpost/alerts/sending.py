"""Sending: claim a message, hand its text to a courier, store the receipt or try again later."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost.alerts.couriers import Courier
from signalpost.alerts.text import brief, render
from signalpost.core.alerting import Pace
from signalpost.core.backoff import Backoff
from signalpost.core.receipts import Receipt, Refused
from signalpost.logs import place
from signalpost.repository import alerts as repository
from signalpost.repository.told import Message
from signalpost.settings import Settings

logger = logging.getLogger(__name__)

BACKOFF = Backoff(base_seconds=2, cap_seconds=60)
SLOW_SECONDS = 60.0
"""Between two tries while only a person can mend what is wrong."""

DEFAULT_PACE = Pace()
STATEMENT_SECONDS = 30.0
"""For one transaction; a server that stands still must not hold up all alerts for ever."""

_PASSING = (
    *(exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError),
    *(TimeoutError, OSError),
)
Result = TypeVar("Result")


def pace_for(settings: Settings) -> Pace:
    """The pace that the settings ask for."""
    return Pace(
        window_seconds=settings.alert_window_seconds,
        messages_per_minute=settings.alert_messages_per_minute,
        quiet_kinds=frozenset(settings.alert_quiet_kinds),
    )


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one claimed message.

    ``receipt`` is the courier's; None means that it was not sent, ``error`` says why, and its
    alerts are due again in ``again_in_seconds``. ``quiet_seconds``: all couriers must stay silent
    so long.
    """

    message: Message
    receipt: str | None
    error: str | None = None
    again_in_seconds: float | None = None
    quiet_seconds: float | None = None

    def line(self) -> str:
        """One line of key=value pairs, ids and labels only: fit for logs, Flower and results."""
        came = f"error={self.error}" if self.receipt is None else f"receipt={self.receipt}"
        return f"{_labels(self.message)} {came}"


async def send_due(
    db: AsyncEngine,
    courier: Courier,
    *,
    pace: Pace = DEFAULT_PACE,
    alert_id: int | None = None,
    limit: int = 20,
    chance: Callable[[], float] = random.random,
    now: datetime | None = None,
) -> list[Sent]:
    """Send what is due, one message after the other, each under a claim of its own.

    Args:
        db: the outbox.
        courier: takes the texts.
        pace: which alerts wait for each other, and how many messages there may be.
        alert_id: only the message that this alert is in; nothing happens where it is sent, put
            off, claimed or held back.
        limit: at most so many messages.
        chance: draws from [0, 1) for the jitter of a retry.
        now: database time instead of the statements' own.

    Returns:
        One value for each claimed message. The first that is refused ends the round: what hinders
        one message mostly hinders all.

    Raises:
        sqlalchemy.exc.SQLAlchemyError, TimeoutError: the database failed, or stood still, before
            anything was handed over.
    """
    results: list[Sent] = []
    for _ in range(limit if alert_id is None else 1):
        message = await _commit(
            db, lambda c: repository.claim_message(c, pace=pace, alert_id=alert_id, now=now)
        )
        if message is None:
            break
        match await _hand_over(courier, message):
            case Receipt() as receipt:
                results.append(await _keep_receipt(db, message, receipt, now))
            case Refused() as refused:
                results.append(await _put_off(db, message, refused, chance(), now))
                break
    return results


async def _hand_over(courier: Courier, message: Message) -> Receipt | Refused:
    """Deliver a message, in brief where its text cannot be made or read: never silent."""
    try:
        text = render(message)
    except Exception as error:  # noqa: BLE001 - one odd row must not hold up all of its kind
        logger.error(
            "alert told in brief, please report it: %s error=%s place=%s",
            _labels(message),
            type(error).__name__,
            place(error),
        )
        return await courier.deliver(brief(message))
    answer = await courier.deliver(text)
    if isinstance(answer, Refused) and answer.unreadable:
        logger.error(
            "alert told in brief, please report it: %s reason=%s", _labels(message), answer.reason
        )
        return await courier.deliver(brief(message))
    return answer


async def _commit(db: AsyncEngine, work: Callable[[Connection], Result]) -> Result:
    async with asyncio.timeout(STATEMENT_SECONDS), db.begin() as connection:
        return await connection.run_sync(work)


async def _keep_receipt(
    db: AsyncEngine, message: Message, receipt: Receipt, now: datetime | None
) -> Sent:
    # The operator has the message. Forgetting that because the database is away for a moment would
    # send it twice, so this waits until the database takes it, or until it is cancelled.
    waiting = False
    while True:
        try:
            await _commit(
                db, lambda c: repository.mark_sent(c, message.alert_ids, receipt.text, now=now)
            )
            break
        except _PASSING as error:
            if not waiting:
                logger.warning(
                    "alert sent, its receipt waits for the database: %s error=%s",
                    _labels(message),
                    type(error).__name__,
                )
            waiting = True
            await asyncio.sleep(0.5)
    logger.info("alert sent: %s receipt=%s", _labels(message), receipt.text)
    return Sent(message, receipt.text)


async def _put_off(
    db: AsyncEngine, message: Message, refused: Refused, chance: float, now: datetime | None
) -> Sent:
    seconds = SLOW_SECONDS if refused.permanent else BACKOFF.delay(message.tries - 1, chance)
    seconds = max(seconds, refused.retry_after_seconds or 0.0)
    logger.log(
        logging.ERROR if refused.permanent else logging.WARNING,
        "alert not sent: %s again_in=%.1fs reason=%s",
        _labels(message),
        seconds,
        refused.reason,
    )
    await _commit(
        db,
        lambda c: repository.put_off(
            c,
            message,
            seconds=seconds,
            error=refused.reason,
            silence_seconds=refused.retry_after_seconds,
            now=now,
        ),
    )
    return Sent(
        message,
        receipt=None,
        error=refused.reason,
        again_in_seconds=seconds,
        quiet_seconds=refused.retry_after_seconds,
    )


def _labels(message: Message) -> str:
    """What a message is about, in the words of :class:`signalpost.reports.Report`."""
    first = message.first[0]
    pairs: dict[str, object] = {"alert": first.alert_id, "kind": message.kind}
    letter = first.letter
    if message.count > 1:
        pairs["alerts"] = message.count
    elif letter is not None:
        pairs |= {
            "delivery": letter.delivery_id,
            "signal": letter.signal_id,
            "instrument": letter.instrument,
            "endpoint": first.endpoint,
            "attempt": letter.attempts,
            "outcome": letter.last.outcome if letter.last else None,
            "status": letter.status,
        }
    else:
        pairs |= {"endpoint": first.endpoint, "subject": first.subject or None}
    pairs["try"] = message.tries
    return " ".join(f"{name}={value}" for name, value in pairs.items() if value is not None)
