"""Ten minutes of everything that goes wrong with Telegram, and what the operator then has."""

from __future__ import annotations

import asyncio
import random
import secrets
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from signalpost import database
from signalpost.alerts import Courier, Pace, Receipt, Refused, send_due
from signalpost.demo import telegram_standin as telegram
from signalpost.demo.telegram_standin import TelegramStandIn
from signalpost.telegram import TelegramCourier
from tests import rows

TOKEN = f"123456:{secrets.token_urlsafe(20)}"
CHAT = "4711"
PACE = Pace(window_seconds=10, messages_per_minute=20)
# What lets nobody know whether the message arrived, beside the kills.
UNKNOWN = telegram.CUT_AFTER_ACCEPTING
REFUSALS = (telegram.BAD_GATEWAY, telegram.CUT, telegram.WRONG_CHAT, telegram.WRONG_TOKEN)


class Killed:
    """A courier whose process is killed with the message in its hand, or just handed over."""

    def __init__(self, inner: Courier, *, handed_over: bool) -> None:
        self._inner = inner
        self._handed_over = handed_over

    async def deliver(self, text_html: str) -> Receipt | Refused:
        if self._handed_over:
            await self._inner.deliver(text_html)
        raise asyncio.CancelledError


@pytest.mark.parametrize("seed", range(2))
async def test_every_dead_letter_gets_its_receipt_through_ten_bad_minutes(
    engine: Engine, database_url: str, seed: int
) -> None:
    """Each alert is linked to a message that arrived; only a kill or a lost answer repeats one."""
    chance = random.Random(seed)
    db = database.async_engine(database_url)
    unknown = doubts = 0
    with engine.begin() as connection:
        now = rows.database_now(connection)
        endpoint_id = rows.add_endpoint(connection)
    async with (
        TelegramStandIn(token=TOKEN, chat_id=CHAT) as standin,
        TelegramCourier(
            TOKEN, CHAT, base_url=standin.base_url, timeout_seconds=5, spacing_seconds=0
        ) as courier,
    ):
        end = now + timedelta(minutes=10)
        while now < end:
            now += timedelta(seconds=chance.uniform(1, 30))
            with engine.begin() as connection:
                for _ in range(chance.randrange(4)):
                    kind = chance.choice(["dead", "expired"])
                    delivery_id = rows.add_delivery(
                        connection,
                        endpoint_id=endpoint_id,
                        status=kind,
                        reason="exhausted",
                        next_attempt_at=None,
                        finished_at=now,
                    )
                    rows.add_alert(
                        connection,
                        kind=kind,
                        delivery_id=delivery_id,
                        endpoint_id=endpoint_id,
                        created_at=now,
                        next_attempt_at=now,
                    )
            standin.heal()
            before = len(standin.messages)
            sender: Courier = courier
            match chance.randrange(8):
                case 0 | 1:
                    standin.fail_until_healed(chance.choice(REFUSALS))
                case 2:
                    standin.fail_until_healed(telegram.too_many(chance.randrange(1, 90)))
                case 3:
                    doubts += 1
                    standin.fail(UNKNOWN)
                case 4:
                    doubts += 1
                    sender = Killed(courier, handed_over=True)
                case 5:
                    sender = Killed(courier, handed_over=False)
            with suppress(asyncio.CancelledError):
                await send_due(db, sender, pace=PACE, now=now, chance=chance.random)
            with engine.connect() as connection:
                kept = {row["receipt"] for row in rows.alerts(connection)}
            unknown += sum(str(m.message_id) not in kept for m in standin.messages[before:])
        standin.heal()
        for _ in range(60):
            now += timedelta(seconds=15)
            await send_due(db, courier, pace=PACE, now=now, chance=chance.random)
        messages = {str(message.message_id) for message in standin.messages}
    await db.dispose()
    with engine.connect() as connection:
        alerts = rows.alerts(connection)
    receipts = {row["receipt"] for row in alerts}
    assert len(alerts) > 20
    assert None not in receipts
    assert receipts <= messages
    assert len(messages - receipts) == unknown <= doubts
