"""What must not stop an engine: errors that nobody foresaw, rows that nobody would write."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from signalpost.clock import Clocks, steady_seconds
from signalpost.core.outcomes import Answer, Phase
from signalpost.core.pausing import Pause
from signalpost.engine import Engine as DeliveryEngine
from signalpost.engine_thread import EngineThread
from signalpost.errors import RecordHeld
from signalpost.outbox import Outbox
from signalpost.repository import pauses
from signalpost.repository.claimed import Claimed
from signalpost.repository.placing import Placed
from signalpost.repository.recorded import Record, Recorded
from tests import receivers, rows
from tests.engines import BOX, SEALED, engine_rig
from tests.proxy import Proxy
from tests.waiting import counts, until


def claimed_by(connection: Connection, worker_id: UUID, **values: Any) -> UUID:
    """A delivery that the worker holds."""
    return rows.add_delivery(
        connection,
        status="sending",
        claim_id=uuid4(),
        worker_id=worker_id,
        claimed_at=rows.database_now(connection),
        next_attempt_at=None,
        attempts=1,
        **values,
    )


def expired(engine: Engine, count: int) -> bool:
    return counts(engine) == {"expired": count}


async def test_an_unforeseen_error_ends_no_loop(engine: Engine, database_url: str) -> None:
    """A loop that meets an error of no known kind looks again a second later, for ever."""
    failures: list[Exception] = [RuntimeError("cannot schedule new futures"), ValueError("odd")]

    def announce(_: Sequence[int]) -> None:
        if failures:
            raise failures.pop()

    async with engine_rig(database_url, announce=announce):
        past = datetime.now(UTC) - timedelta(seconds=1)
        for count in (1, 2, 3):
            with engine.begin() as connection:
                rows.add_delivery(connection, expires_at=past)
            await until(partial(expired, engine, count), seconds=5)
    assert failures == []


class _FailsToUnpark(Outbox):
    """Its first try to take back what a pause had put aside fails."""

    failed = False

    async def unpark(self) -> int:
        if not type(self).failed:
            type(self).failed = True
            raise TimeoutError
        return await super().unpark()


async def test_what_a_pause_has_put_aside_comes_back_though_the_first_try_failed(
    engine: Engine, database_url: str
) -> None:
    """The next look at the pauses tries again, though the resume is no news to it any more."""
    what = Pause("producer", "tests")
    names = {"named": "tests", "actor": "tests", "why": ""}
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, start=False, outbox_of=_FailsToUnpark) as rig,
    ):
        with engine.begin() as connection:
            pauses.pause(connection, what, **names)
            desk = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            rows.add_delivery(connection, endpoint_id=desk)
        await rig.engine.vigil.renew()
        _FailsToUnpark.failed = True
        await rig.engine._rounds.refresh_gate()
        await rig.engine.drain()
        with engine.begin() as connection:
            assert pauses.resume(connection, what, **names)
        _FailsToUnpark.failed = False
        with pytest.raises(TimeoutError):
            await rig.engine._rounds.refresh_gate()
        await rig.engine._rounds.refresh_gate()
        await receiver.wait_for(1)


class _FailsToLetGo(Outbox):
    """Never lets go what is stuck."""

    asked = 0

    async def let_stuck_go(self) -> bool:
        raise TimeoutError

    async def tell_long_open(self) -> list[int]:
        self.asked += 1
        return await super().tell_long_open()


async def test_a_look_that_always_fails_silences_no_other(
    engine: Engine, database_url: str
) -> None:
    """Breakers that stay open are told though what is stuck can never be let go."""
    failed = 0
    async with engine_rig(database_url, start=False, outbox_of=_FailsToLetGo) as rig:
        assert isinstance(rig.outbox, _FailsToLetGo)
        await rig.engine.vigil.renew()
        for look, _ in rig.engine._rounds.looks:
            try:
                await look()
            except TimeoutError:
                failed += 1
    assert (failed, rig.outbox.asked) == (1, 1)


class _HeldTwice(Outbox):
    """Its first two records of an attempt wait for a row that somebody holds."""

    held = 2

    async def record(self, items: Sequence[Record]) -> list[Recorded | Exception | None]:
        if self.held:
            self.held -= 1
            return [RecordHeld() for _ in items]
        return await super().record(items)


class _SlowToPlace(Outbox):
    """Its first placing has looked, and lasts until it is let go on."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.placed, self.go_on = asyncio.Event(), asyncio.Event()

    async def place_new(self) -> Placed:
        found = await super().place_new()
        self.placed.set()
        await self.go_on.wait()
        return found


async def test_a_held_record_is_said_once_however_often_it_is_tried(
    engine: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that stays held for minutes does not fill the log with two lines a second."""
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, start=False, outbox_of=_HeldTwice) as rig,
    ):
        with engine.begin() as connection:
            desk = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            delivery_id = rows.add_delivery(connection, endpoint_id=desk)
        await rig.engine.vigil.renew()
        await rig.engine._rounds.refresh_gate()
        assert (await rig.engine.deliver(delivery_id)).outcome == "delivered"
    assert caplog.text.count("not recorded yet") == 1


async def test_what_is_new_while_others_are_placed_is_placed_after_them(
    engine: Engine, database_url: str
) -> None:
    """No look is lost because a placing was under way that had looked before."""
    async with engine_rig(database_url, start=False, outbox_of=_SlowToPlace) as rig:
        assert isinstance(rig.outbox, _SlowToPlace)
        rig.engine._holder.hold(Claimed(unplaced=True), 0, 0.0)
        await rig.outbox.placed.wait()
        with engine.begin() as connection:
            desk = rows.add_endpoint(connection)
            new = rows.add_delivery(
                connection, endpoint_id=desk, ordered=True, ordering_key="EURUSD", held="new"
            )
        rig.engine._holder.hold(Claimed(unplaced=True), 0, 0.0)
        rig.outbox.go_on.set()

        def placed() -> bool:
            with engine.connect() as connection:
                return bool(rows.delivery(connection, new)["held"] != "new")

        await until(placed, seconds=5)


async def test_lost_claims_are_tried_again_by_whoever_ended_them(
    engine: Engine, database_url: str
) -> None:
    """Both ways of ending a lost claim set its retry going, though no rescue is under way."""
    ahead = 0.0
    clocks = Clocks(steady=lambda: steady_seconds() + ahead)
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, clocks=clocks, start=False) as rig,
    ):
        await rig.engine.vigil.renew()
        await rig.engine._rounds.refresh_gate()
        with engine.begin() as connection:
            desk = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            rows.add_delivery(connection, endpoint_id=desk)
        await rig.outbox.claim_due(limit=1, overdue_seconds=0)
        await rig.engine.vigil.end_unheld_claims()
        await rig.engine.vigil.end_unheld_claims()
        await receiver.wait_for(1)
        with engine.begin() as connection:
            silent = rows.add_worker(connection, renewed_at=datetime(2020, 1, 1, tzinfo=UTC))
            claimed_by(connection, silent, endpoint_id=desk)
        while not rig.lease.may_take_back:
            ahead += 0.5
            await rig.engine.vigil.renew()
        await rig.engine._rounds.refresh_gate()
        await rig.engine.vigil.take_back()
        await receiver.wait_for(2)


async def test_the_end_of_a_lost_claim_is_told_at_once(engine: Engine, database_url: str) -> None:
    """One whose last attempt was lost has died, and its alert does not wait for a look."""
    async with engine_rig(database_url, start=False) as rig:
        await rig.engine.vigil.renew()
        with engine.begin() as connection:
            desk = rows.add_endpoint(connection, secret_ciphertext=SEALED, max_retries=0)
            rows.add_delivery(connection, endpoint_id=desk)
        await rig.outbox.claim_due(limit=1, overdue_seconds=0)
        await rig.engine.vigil.end_unheld_claims()
        await rig.engine.vigil.end_unheld_claims()
    assert counts(engine) == {"dead": 1}
    with engine.connect() as connection:
        assert rig.announced == [alert["id"] for alert in rows.alerts(connection)]


async def test_a_database_that_is_away_fills_no_log(
    engine: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of an engine's loops says once that it failed, however often it does, and all go on."""
    fate = "pass"
    with Proxy(database_url, lambda _: fate) as proxy:
        async with engine_rig(proxy.url):
            fate = "cut"
            await until(lambda: proxy.cuts >= 30, seconds=20)
            fate = "pass"
            with engine.begin() as connection:
                rows.add_delivery(connection, expires_at=datetime.now(UTC) - timedelta(seconds=1))
            await until(partial(expired, engine, 1), seconds=20)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert 1 <= sum("failed" in line for line in said) <= 12, said


async def test_a_renewal_that_fails_in_an_unforeseen_way_is_done_again(
    engine: Engine, database_url: str
) -> None:
    """Not even an error of no known kind ends the renewing, without which nothing is ever sent."""
    broken = True

    def steady() -> float:
        if broken:
            raise ValueError("a clock that cannot be read")
        return steady_seconds()

    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, clocks=Clocks(steady=steady)) as rig,
    ):
        with engine.begin() as connection:
            endpoint = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            rows.add_delivery(connection, endpoint_id=endpoint)
        assert not await rig.engine.vigil.renew()
        broken = False
        await until(lambda: counts(engine) == {"delivered": 1}, seconds=8)


async def test_an_endpoint_with_an_impossible_policy_holds_up_nobody(
    engine: Engine, database_url: str
) -> None:
    """Numbers that no command would store fall back to the settings', and claims still end."""
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, start=False) as rig,
    ):
        with engine.begin() as connection:
            now = rows.database_now(connection)
            gone = rows.add_worker(connection, renewed_at=now - timedelta(seconds=11))
            sent = []
            for schedule in ([1.0, float("nan")], [[1.0, 2.0]], [1e300]):
                odd = rows.add_endpoint(
                    connection,
                    url=receiver.url,
                    secret_ciphertext=SEALED,
                    retry_delay_seconds=float("nan"),
                    retry_schedule_seconds=schedule,
                )
                sent.append(rows.add_delivery(connection, endpoint_id=odd))
                claimed_by(connection, gone, endpoint_id=odd)
            claimed_by(connection, gone)
        await rig.engine.vigil.renew()
        for one in sent:
            assert (await rig.engine.deliver(one)).outcome == "delivered"
        taken = await rig.outbox.take_back(rig.dispatcher.judge_lost, silence_seconds=10)
    assert [item.applied for item in taken.values()] == [True] * 4


async def test_an_expiry_at_the_end_of_time_holds_up_nobody(
    engine: Engine, database_url: str
) -> None:
    """The last instant there is, read on a server far in the east, stops no other delivery."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "DO $$ BEGIN EXECUTE format("
                "'ALTER DATABASE %I SET timezone TO ''Asia/Tokyo''', current_database()); END $$"
            )
        )
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        with engine.begin() as connection:
            endpoint = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            last = text("'9999-12-31 23:59:59.999999+00'::timestamptz")
            rows.add_delivery(connection, endpoint_id=endpoint, expires_at=last)
            rows.add_delivery(connection, endpoint_id=endpoint)
        tally = await rig.engine.drain()
    assert tally["delivered"] == 2


async def test_a_secret_that_is_no_text_is_unreadable_and_not_logged(
    engine: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A stored secret that decrypts to no text keeps its deliveries pending; no byte is shown."""
    caplog.set_level(logging.DEBUG)
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        with engine.begin() as connection:
            endpoint = rows.add_endpoint(
                connection, url=receiver.url, secret_ciphertext=BOX.encrypt(b"\xfe" * 32)
            )
            delivery_id = rows.add_delivery(connection, endpoint_id=endpoint)
        report = await rig.engine.deliver(delivery_id)
    assert (report.outcome, report.detail) == ("released", "secret_unreadable")
    assert "0xfe" not in caplog.text


async def test_a_record_refused_even_bare_hides_no_other(engine: Engine, database_url: str) -> None:
    """Where nothing of an attempt can be stored, its neighbours in the group still are."""
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, start=False) as rig,
    ):
        with engine.begin() as connection:
            endpoint = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            ids = [rows.add_delivery(connection, endpoint_id=endpoint) for _ in range(5)]
            connection.execute(
                text(f"ALTER TABLE signalpost.attempts ADD CHECK (delivery_id <> '{ids[1]}')")
            )
        await rig.engine.vigil.renew()
        claims = (await rig.outbox.claim_due(limit=5, overdue_seconds=0)).claims
        results = await rig.outbox.record(
            [
                rig.dispatcher.judge(claim, Answer(Phase.BODY, 0.1, status_code=201))
                for claim in claims
            ]
        )
    assert counts(engine) == {"delivered": 4, "sending": 1}
    assert [isinstance(result, Recorded) for result in results].count(True) == 4


async def test_an_attempt_that_cannot_be_written_as_it_is_hides_no_other(
    engine: Engine, database_url: str
) -> None:
    """What the driver itself cannot encode is recorded bare, as what the server refuses is."""
    async with engine_rig(database_url, start=False) as rig:
        with engine.begin() as connection:
            for _ in range(3):
                rows.add_delivery(connection)
        await rig.engine.vigil.renew()
        claims = (await rig.outbox.claim_due(limit=3, overdue_seconds=0)).claims
        details = ["", "\ud800", ""]
        results = await rig.outbox.record(
            [
                rig.dispatcher.judge(claim, Answer(Phase.BODY, 0.1, 201, None, detail))
                for claim, detail in zip(claims, details, strict=True)
            ]
        )
    assert counts(engine) == {"delivered": 3}
    assert all(isinstance(result, Recorded) for result in results)


async def test_a_worker_that_looks_silent_itself_judges_nobody(
    engine: Engine, database_url: str
) -> None:
    """By the database's clock, in the same statement: a server that stood still silences all."""
    async with engine_rig(database_url, start=False) as rig:
        with engine.begin() as connection:
            before = rows.database_now(connection) - timedelta(seconds=15)
            other = rows.add_worker(connection, renewed_at=before)
            claimed_by(connection, other)
        await rig.engine.vigil.renew()
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE signalpost.workers SET renewed_at = :before WHERE id <> :other"),
                {"before": before, "other": other},
            )
        judge = rig.dispatcher.judge_lost
        assert await rig.outbox.take_back(judge, silence_seconds=10) == {}
        await rig.engine.vigil.renew()
        assert len(await rig.outbox.take_back(judge, silence_seconds=10)) == 1


def test_the_end_of_the_engine_thread_is_told_at_once(database_url: str, engine: Engine) -> None:
    """Celery would go on without it, taking every message and sending nothing: the worker ends."""

    def announce(_: Sequence[int]) -> None:
        raise SystemExit

    @asynccontextmanager
    async def build() -> AsyncIterator[DeliveryEngine]:
        async with engine_rig(database_url, announce=announce, start=False) as rig:
            yield rig.engine

    died = threading.Event()
    thread = EngineThread(build, died=died.set)
    thread.start()
    with engine.begin() as connection:
        rows.add_delivery(connection, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert died.wait(10)
    thread.stop()


def test_an_engine_thread_that_was_stopped_has_not_died(database_url: str) -> None:
    """An end in good order is no cause for alarm."""

    @asynccontextmanager
    async def build() -> AsyncIterator[DeliveryEngine]:
        async with engine_rig(database_url, start=False) as rig:
            yield rig.engine

    died = threading.Event()
    thread = EngineThread(build, died=died.set)
    thread.start()
    thread.stop()
    assert not died.is_set()
