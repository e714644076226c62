"""The heartbeat to a monitor outside: only while all is well, and without a trace of its URL."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiohttp import web
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost import database
from signalpost.alerts.heart import Heart
from tests import rows
from tests.receivers import Receiver, Seen, receiver


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[AsyncEngine]:
    opened = database.async_engine(database_url)
    yield opened
    await opened.dispose()


@pytest.fixture
async def monitor() -> AsyncIterator[Receiver]:
    async def take(_: Seen) -> web.Response:
        return web.Response(text="x" * 100_000)

    async with receiver(take) as running:
        yield running


async def test_the_heart_beats_while_all_is_well(db: AsyncEngine, monitor: Receiver) -> None:
    """With nothing overdue and nothing unsent the monitor's URL is fetched, once a beat."""
    async with Heart(monitor.url) as heart:
        assert await heart.beat(db)
        assert await heart.beat(db)
    assert len(monitor.seen) == 2


@pytest.mark.parametrize("seconds", [55, 65])
async def test_no_beat_while_a_delivery_is_overdue(
    engine: Engine, db: AsyncEngine, monitor: Receiver, seconds: float
) -> None:
    """A delivery that has been due for more than a minute stops the heart."""
    with engine.begin() as connection:
        due = rows.database_now(connection) - timedelta(seconds=seconds)
        rows.add_delivery(connection, next_attempt_at=due)
    async with Heart(monitor.url) as heart:
        assert await heart.beat(db) == (seconds < 60)
    assert len(monitor.seen) == (1 if seconds < 60 else 0)


@pytest.mark.parametrize("seconds", [290, 310])
async def test_no_beat_while_an_alert_is_unsent(
    engine: Engine,
    db: AsyncEngine,
    monitor: Receiver,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
) -> None:
    """An alert that has waited for more than five minutes stops the heart, and the log says why."""
    caplog.set_level(logging.INFO)
    with engine.begin() as connection:
        raised = rows.database_now(connection) - timedelta(seconds=seconds)
        rows.add_alert(connection, kind="dead", created_at=raised)
    async with Heart(monitor.url) as heart:
        for _ in range(3):
            assert await heart.beat(db) == (seconds < 300)
        with engine.begin() as connection:
            connection.execute(text("UPDATE signalpost.alerts SET sent_at = now()"))
        assert await heart.beat(db)
    assert caplog.text.count("because alerts are unsent for 300 s") == (seconds > 300)
    assert caplog.text.count("it beats again") == (seconds > 300)


async def test_no_beat_without_the_database(monitor: Receiver) -> None:
    """Where the database is away nobody can say that all is well."""
    away = database.async_engine("postgresql://u:p@127.0.0.1:1/x", connect_timeout=1)
    async with Heart(monitor.url) as heart:
        with pytest.raises(Exception, match="onnect"):
            await heart.beat(away)
    await away.dispose()
    assert monitor.seen == []


async def test_a_monitor_that_fails_is_told_without_its_url(
    db: AsyncEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """Errors, refusals and redirects of the monitor are logged once each, never with the URL."""
    caplog.set_level(logging.DEBUG)
    word = secrets.token_urlsafe(12)
    codes = [500, 500, 302]

    async def answer(_: Seen) -> web.Response:
        code = codes.pop(0)
        return web.Response(status=code, headers={"Location": "/elsewhere"})

    async with receiver(answer) as monitor, Heart(f"{monitor.url}/{word}") as heart:
        for _ in range(3):
            assert not await heart.beat(db)
    async with Heart(f"http://127.0.0.1:1/{word}") as nobody:
        assert not await nobody.beat(db)
    assert caplog.text.count("the monitor answered 500") == 1
    assert caplog.text.count("the monitor answered 302") == 1
    assert caplog.text.count("cannot be reached (ConnectError)") == 1
    # The receiver of this test is in the same process, and logs what it was asked for.
    ours = [each.getMessage() for each in caplog.records if each.name != "aiohttp.access"]
    assert not [line for line in ours if word in line]


async def test_a_monitor_that_hangs_holds_nothing_up(db: AsyncEngine) -> None:
    """A monitor that sends headers and drips for ever costs a bounded time."""

    async def hang(_: Seen) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with receiver(hang) as monitor, Heart(monitor.url, timeout_seconds=0.2) as heart:
        began = time.monotonic()
        assert not await heart.beat(db)
        assert time.monotonic() - began < 5
