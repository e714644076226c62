"""What tests of alerts share: the real courier, a stand-in of the Bot API, the database awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost import database
from signalpost.demo.telegram_standin import TelegramStandIn
from signalpost.telegram import TelegramCourier
from tests.couriers import CHAT, TOKEN


@pytest.fixture
async def standin() -> AsyncIterator[TelegramStandIn]:
    async with TelegramStandIn(token=TOKEN, chat_id=CHAT) as running:
        yield running


@pytest.fixture
async def courier(standin: TelegramStandIn) -> AsyncIterator[TelegramCourier]:
    async with TelegramCourier(
        TOKEN, CHAT, base_url=standin.base_url, timeout_seconds=5, spacing_seconds=0
    ) as ready:
        yield ready


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[AsyncEngine]:
    opened = database.async_engine(database_url)
    yield opened
    await opened.dispose()
