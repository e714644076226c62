"""The alert loop: a thread that needs PostgreSQL alone, outlasts its outages, and ends in order."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Self

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost import database
from signalpost.alerts import (
    AlertLoop,
    Courier,
    Receipt,
    Refused,
    Round,
    rounds_for,
)
from signalpost.demo import telegram_standin
from signalpost.demo.telegram_standin import Fault, TelegramStandIn, running_standin
from signalpost.settings import Settings
from signalpost.telegram import TelegramCourier
from tests import rows
from tests.processes import wait_for

TOKEN = f"123456:{secrets.token_urlsafe(20)}"
CHAT = "4711"
OpenCourier = Callable[[], AbstractAsyncContextManager[Courier]]


@pytest.fixture
def standin() -> Iterator[TelegramStandIn]:
    with running_standin(token=TOKEN, chat_id=CHAT) as running:
        yield running


@pytest.fixture
def open_courier(standin: TelegramStandIn) -> OpenCourier:
    return lambda: TelegramCourier(TOKEN, CHAT, base_url=standin.base_url, spacing_seconds=0)


@contextmanager
def running_loop(
    database_url: str,
    open_courier: OpenCourier,
    *,
    interval_seconds: float = 0.05,
    turn_seconds: float = 5,
) -> Iterator[AlertLoop]:
    loop = AlertLoop(
        lambda: database.async_engine(database_url, connect_timeout=2),
        open_courier,
        interval_seconds=interval_seconds,
        turn_seconds=turn_seconds,
    )
    loop.start()
    try:
        yield loop
    finally:
        loop.stop()


@contextmanager
def resting_loop(database_url: str, open_courier: OpenCourier) -> Iterator[AlertLoop]:
    """A loop that has looked once, found nothing, and will not look again by itself."""
    looked = threading.Event()

    def open_database() -> AsyncEngine:
        opened = database.async_engine(database_url)
        event.listen(opened.sync_engine, "checkin", lambda *_: looked.set())
        return opened

    loop = AlertLoop(open_database, open_courier, interval_seconds=600)
    loop.start()
    try:
        assert looked.wait(10)
        yield loop
    finally:
        loop.stop()


def add_alert(engine: Engine, kind: str = "clock_off") -> int:
    with engine.begin() as connection:
        return rows.add_alert(connection, kind=kind)


def receipts(engine: Engine) -> list[str | None]:
    with engine.connect() as connection:
        return [row["receipt"] for row in rows.alerts(connection)]


def test_the_loop_finds_alerts_by_itself(
    engine: Engine, database_url: str, open_courier: OpenCourier
) -> None:
    """Alerts written before and after the start are sent with nobody asking for it."""
    add_alert(engine, "before")
    with running_loop(database_url, open_courier):
        wait_for(lambda: receipts(engine) == ["1"])
        add_alert(engine, "after")
        wait_for(lambda: receipts(engine) == ["1", "2"])


def test_a_task_sends_through_the_loop(
    engine: Engine, database_url: str, open_courier: OpenCourier
) -> None:
    """Another thread can have one alert sent at once and learns its receipt; later it is done."""
    with resting_loop(database_url, open_courier) as loop:
        alert_id = add_alert(engine)
        (sent,) = loop.send(alert_id)
        assert sent.receipt == "1"
        assert sent.line() == f"alert={alert_id} kind=clock_off try=1 receipt=1"
        assert loop.send(alert_id) == []


def test_a_loop_that_does_not_run_sends_nothing(
    engine: Engine, database_url: str, open_courier: OpenCourier
) -> None:
    """Before the start and after the end a task's alert is left alone, without an error."""
    alert_id = add_alert(engine)
    loop = AlertLoop(lambda: database.async_engine(database_url), open_courier)
    loop.stop()
    assert loop.send(alert_id) == []
    assert receipts(engine) == [None]
    with running_loop(database_url, open_courier) as ended:
        wait_for(lambda: receipts(engine) == ["1"])
    assert ended.send(add_alert(engine)) == []
    ended.stop()


def test_a_loop_can_be_started_again(
    engine: Engine, database_url: str, open_courier: OpenCourier
) -> None:
    """After its end, the same loop starts anew and goes on sending."""
    with running_loop(database_url, open_courier) as loop:
        loop.stop()
        loop.start()
        add_alert(engine)
        wait_for(lambda: receipts(engine) == ["1"])


def test_a_start_that_fails_says_so(database_url: str) -> None:
    """What the courier cannot do at the start is raised to whoever starts the loop."""

    def impossible() -> AbstractAsyncContextManager[Courier]:
        raise ValueError("no courier today")

    loop = AlertLoop(lambda: database.async_engine(database_url), impossible)
    with pytest.raises(ValueError, match="no courier today"):
        loop.start()
    loop.stop()


def test_a_pause_silences_all_alerts(
    engine: Engine, database_url: str, open_courier: OpenCourier, standin: TelegramStandIn
) -> None:
    """While Telegram wants a pause no alert is tried, neither by the loop nor by a task."""
    standin.fail(telegram_standin.too_many(2))
    first, second = add_alert(engine, "first"), add_alert(engine, "second")
    with running_loop(database_url, open_courier) as loop:
        wait_for(lambda: len(standin.calls) == 1)
        assert loop.send(first) == []
        assert loop.send(second) == []
        wait_for(lambda: None not in receipts(engine))
    moments = [moment for _, moment in standin.calls]
    assert len(moments) == 3
    assert moments[1] - moments[0] >= 1.9


def test_an_outage_of_the_database_is_logged_once_and_outlasted(
    engine: Engine,
    postgres_server: str,
    database_url: str,
    open_courier: OpenCourier,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A database that is away for many looks gives one line, and one when it is back."""
    caplog.set_level(logging.WARNING)
    engine.dispose()
    with running_loop(database_url, open_courier, interval_seconds=0.02) as loop:
        with refusing(postgres_server, database_url.rsplit("/", 1)[1]):
            wait_for(lambda: "the database cannot be used" in caplog.text)
            for _ in range(5):
                assert loop.send(1) == []
        add_alert(engine)
        wait_for(lambda: receipts(engine) == ["1"])
    assert caplog.text.count("the database cannot be used") == 1
    assert caplog.text.count("sending goes on") == 1


@contextmanager
def refusing(postgres_server: str, name: str) -> Iterator[None]:
    """A database that cuts its connections and takes none, until the end."""
    switch = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(switch.format(sql.Identifier(name), sql.SQL("false")))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        yield
        connection.execute(switch.format(sql.Identifier(name), sql.SQL("true")))


class Stumbling:
    """A courier that breaks its word once: it raises."""

    def __init__(self) -> None:
        self._stumbled = False

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
        if not self._stumbled:
            self._stumbled = True
            raise RuntimeError("private words")
        return Receipt("steady")


def test_a_surprise_neither_ends_the_loop_nor_spills(
    engine: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error is logged by class and place only, and the next alert is sent."""
    add_alert(engine, "first")
    with running_loop(database_url, Stumbling):
        wait_for(lambda: "internal error RuntimeError at deliver" in caplog.text)
        add_alert(engine, "second")
        wait_for(lambda: receipts(engine) == [None, "steady"])
    assert "private words" not in caplog.text


class Fatal(Stumbling):
    """A courier that ends whatever runs it."""

    async def deliver(self, text_html: str) -> Receipt | Refused:
        raise SystemExit("private words")


def test_a_loop_that_dies_says_so(
    engine: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever ends a running loop, its process hears of it, and the log names the place."""
    add_alert(engine)
    died = threading.Event()
    loop = AlertLoop(lambda: database.async_engine(database_url), Fatal, died=died.set)
    loop.start()
    assert died.wait(10)
    loop.stop()
    assert "nothing is alerted any more error=SystemExit place=deliver" in caplog.text
    assert "private words" not in caplog.text


class Rounds:
    """Rounds that note that they were gone, and go wrong as they are told."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.gone = 0

    async def go(self, _: AsyncEngine) -> None:
        self.gone += 1
        if self.errors:
            raise self.errors.pop(0)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Sequence[Round]]:
        yield [Round("watch", 0.01, self.go)]


def test_a_round_outlasts_its_errors(
    engine: Engine,
    database_url: str,
    open_courier: OpenCourier,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What goes wrong in a round is logged without its text, and it goes on, as sending does."""
    rounds = Rounds(OSError("private words"), OSError("more"), RuntimeError("private words"))
    loop = AlertLoop(
        lambda: database.async_engine(database_url), open_courier, open_rounds=rounds.open
    )
    loop.start()
    add_alert(engine)
    wait_for(lambda: rounds.gone > 5 and receipts(engine) == ["1"])
    loop.stop()
    assert caplog.text.count("watch: the database cannot be used (OSError)") == 1
    assert "watch: an unforeseen error, please report it; trying on error=RuntimeError" in (
        caplog.text
    )
    assert "watch: goes on" in caplog.text
    assert "private words" not in caplog.text


@pytest.mark.parametrize("error", [SystemExit("private words"), GeneratorExit("private words")])
def test_a_round_that_dies_ends_the_loop_and_says_so(
    database_url: str,
    open_courier: OpenCourier,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    """A watch that ends for good is no lesser death than that of the sending."""
    died = threading.Event()
    loop = AlertLoop(
        lambda: database.async_engine(database_url),
        open_courier,
        open_rounds=Rounds(error).open,
        died=died.set,
    )
    loop.start()
    assert died.wait(10)
    loop.stop()
    assert "nothing is alerted any more" in caplog.text
    assert "private words" not in caplog.text


def test_alerts_leave_while_redis_is_down(
    engine: Engine, database_url: str, open_courier: OpenCourier, standin: TelegramStandIn
) -> None:
    """With no Redis at its address the real rounds and the sending go on: an alert arrives."""
    settings = Settings(database_url=database_url, redis_url="redis://127.0.0.1:1/0")
    with engine.begin() as connection:
        rows.add_delivery(
            connection,
            next_attempt_at=rows.database_now(connection) - timedelta(seconds=2),
            expires_at=rows.database_now(connection) - timedelta(seconds=1),
        )
    loop = AlertLoop(
        lambda: database.async_engine(database_url),
        open_courier,
        open_rounds=lambda: rounds_for(settings),
        interval_seconds=0.05,
    )
    loop.start()
    wait_for(lambda: receipts(engine) == ["1"])
    loop.stop()
    assert standin.messages[0].plain.startswith("Expired: AAPL buy (open) to endpoint-")


def test_a_start_that_is_ended_does_not_hang(database_url: str) -> None:
    """An end that comes before the loop runs reaches whoever starts it, and is no death."""
    died = threading.Event()

    def ending() -> AbstractAsyncContextManager[Courier]:
        raise SystemExit(3)

    loop = AlertLoop(lambda: database.async_engine(database_url), ending, died=died.set)
    with pytest.raises(SystemExit):
        loop.start()
    assert not died.is_set()


def test_an_orderly_end_is_no_death(
    engine: Engine, database_url: str, open_courier: OpenCourier, standin: TelegramStandIn
) -> None:
    """A loop that was asked to stop, even one that had to be broken off, reports no death."""
    standin.fail(Fault(delay_seconds=15))
    add_alert(engine)
    died = threading.Event()
    loop = AlertLoop(lambda: database.async_engine(database_url), open_courier, died=died.set)
    loop.start()
    wait_for(lambda: len(standin.calls) == 1)
    loop.stop(timeout_seconds=0.1)
    assert not died.is_set()


def test_a_stop_lets_the_message_in_hand_end_well(
    engine: Engine, database_url: str, open_courier: OpenCourier, standin: TelegramStandIn
) -> None:
    """A message under way at the stop is finished and receipted, and nothing new is begun."""
    standin.fail(Fault(delay_seconds=0.5))
    add_alert(engine, "first")
    add_alert(engine, "second")
    with running_loop(database_url, open_courier) as loop:
        wait_for(lambda: len(standin.calls) == 1)
        loop.stop()
    assert receipts(engine) == ["1", None]
    assert "signalpost-alerts" not in [thread.name for thread in threading.enumerate()]


def test_a_stop_lets_a_tasks_message_end_well(
    engine: Engine, database_url: str, open_courier: OpenCourier, standin: TelegramStandIn
) -> None:
    """The message of a task that is under way at the stop is finished and receipted too."""
    with resting_loop(database_url, open_courier) as loop:
        standin.fail(Fault(delay_seconds=0.5))
        alert_id = add_alert(engine)
        task = threading.Thread(target=loop.send, args=(alert_id,))
        task.start()
        wait_for(lambda: len(standin.calls) == 1)
        loop.stop()
        task.join(10)
    assert receipts(engine) == ["1"]


def test_a_stop_is_bounded(
    engine: Engine,
    database_url: str,
    open_courier: OpenCourier,
    standin: TelegramStandIn,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A message that would hold up the end is broken off, and the log says that it may repeat."""
    standin.fail(Fault(delay_seconds=15))
    add_alert(engine)
    with running_loop(database_url, open_courier) as loop:
        wait_for(lambda: len(standin.calls) == 1)
        began = time.monotonic()
        loop.stop(timeout_seconds=0.2)
        assert time.monotonic() - began < 4
    assert "it may be sent once more" in caplog.text
    assert receipts(engine) == [None]


def test_a_task_does_not_queue_for_long(
    engine: Engine, database_url: str, open_courier: OpenCourier, standin: TelegramStandIn
) -> None:
    """A task whose turn does not come leaves its alert to the loop, which sends it later."""
    standin.fail(Fault(delay_seconds=1))
    add_alert(engine, "first")
    with running_loop(database_url, open_courier, turn_seconds=0.05) as loop:
        wait_for(lambda: len(standin.calls) == 1)
        assert loop.send(add_alert(engine, "second")) == []
        wait_for(lambda: receipts(engine) == ["1", "2"])


def test_a_task_that_gives_up_waiting_breaks_nothing_off(
    engine: Engine, database_url: str, open_courier: OpenCourier, standin: TelegramStandIn
) -> None:
    """A task may stop waiting for its message; the message ends with its receipt all the same."""
    with resting_loop(database_url, open_courier) as loop:
        standin.fail(Fault(delay_seconds=0.5))
        assert loop.send(add_alert(engine), timeout_seconds=0.05) == []
        wait_for(lambda: receipts(engine) == ["1"])
