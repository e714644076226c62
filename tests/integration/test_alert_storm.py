"""Many alerts at once: few messages, one pace for all senders, and a receipt for every alert."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost import database
from signalpost.alerts import Pace, Receipt, Refused, send_due
from signalpost.demo import telegram_standin
from signalpost.demo.telegram_standin import TelegramStandIn
from signalpost.repository import alerts
from signalpost.telegram import TelegramCourier
from tests import rows
from tests.couriers import CHAT, TOKEN


def die(connection: Connection, endpoint_id: int, at: datetime, *, kind: str = "dead") -> None:
    """One more dead letter, and its alert, at a moment."""
    delivery_id = rows.add_delivery(
        connection,
        endpoint_id=endpoint_id,
        status=kind,
        reason="exhausted",
        next_attempt_at=None,
        finished_at=at,
    )
    rows.add_alert(
        connection,
        kind=kind,
        delivery_id=delivery_id,
        endpoint_id=endpoint_id,
        created_at=at,
        next_attempt_at=at,
    )


def now_and_desk(engine: Engine) -> tuple[datetime, int]:
    with engine.begin() as connection:
        return rows.database_now(connection), rows.add_endpoint(connection, name="desk")


def every_alert(engine: Engine) -> Sequence[Mapping[str, Any]]:
    with engine.connect() as connection:
        return rows.alerts(connection)


def unreceipted(engine: Engine) -> list[object]:
    """The dead letters without an alert that a message's receipt stands on."""
    with engine.connect() as connection:
        return list(
            connection.execute(
                text(
                    "SELECT d.id FROM signalpost.deliveries d WHERE status IN ('dead', 'expired')"
                    " AND NOT EXISTS (SELECT FROM signalpost.alerts a WHERE a.delivery_id = d.id"
                    " AND a.sent_at IS NOT NULL AND a.receipt IS NOT NULL)"
                )
            ).scalars()
        )


def told(standin: TelegramStandIn) -> list[int]:
    """Of how many dead letters each message tells."""
    return [
        int(found[1]) if (found := re.match(r"(\d+) dead letters", message.plain)) else 1
        for message in standin.messages
    ]


async def test_a_hundred_dead_letters_in_a_minute_are_few_messages(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """The first leaves at once and alone, all others go out together; each has a receipt."""
    start, endpoint_id = now_and_desk(engine)
    after: dict[int, list[int]] = {}
    for second in range(130):
        now = start + timedelta(seconds=second)
        with engine.begin() as connection:
            # One at first, then two a second, until there are a hundred.
            for _ in range(min(2 if second else 1, 100 - len(rows.alerts(connection)))):
                die(connection, endpoint_id, now)
        await send_due(db, courier, now=now)
        after[second] = told(standin)
    assert after[0] == after[59] == [1]
    assert after[61] == after[129] == [1, 99]
    assert unreceipted(engine) == []
    assert {row["receipt"] for row in every_alert(engine)} == {"1", "2"}
    assert "signalpost alerts list --kind dead --since" in standin.messages[1].plain


async def test_a_kill_in_a_storm_repeats_one_message_and_loses_none(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """A sender killed between sending and receipt of a message for many repeats it after the
    lease, and everything is receipted.
    """
    start, endpoint_id = now_and_desk(engine)
    with engine.begin() as connection:
        for _ in range(100):
            die(connection, endpoint_id, start)

    class Killed:
        async def deliver(self, text_html: str) -> Receipt | Refused:
            await courier.deliver(text_html)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await send_due(db, Killed(), now=start)
    assert told(standin) == [100]
    assert len(unreceipted(engine)) == 100
    # A newcomer waits for those that somebody may be sending.
    with engine.begin() as connection:
        die(connection, endpoint_id, start)
    await send_due(db, courier, now=start + timedelta(seconds=alerts.LEASE_SECONDS - 1))
    assert told(standin) == [100]
    await send_due(db, courier, now=start + timedelta(seconds=alerts.LEASE_SECONDS + 1))
    assert told(standin) == [100, 101]
    assert unreceipted(engine) == []


async def test_many_senders_in_a_storm_tell_each_dead_letter_once(
    engine: Engine, db: AsyncEngine, database_url: str, standin: TelegramStandIn
) -> None:
    """Loops and tasks of two ops workers at once never put an alert into two messages."""
    other = database.async_engine(database_url)
    pace = Pace(window_seconds=0, messages_per_minute=60)
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection)

    async def raising() -> None:
        for _ in range(60):
            with engine.begin() as connection:
                die(connection, endpoint_id, rows.database_now(connection))
            await asyncio.sleep(0.005)

    async def sending(own: AsyncEngine, *, task: bool) -> None:
        url = standin.base_url
        async with TelegramCourier(TOKEN, CHAT, base_url=url, spacing_seconds=0) as courier:
            while unreceipted(engine) or not raised.done():
                newest = max((row["id"] for row in every_alert(engine)), default=0)
                await send_due(own, courier, pace=pace, alert_id=newest if task else None)
                await asyncio.sleep(0.01)

    raised = asyncio.create_task(raising())
    async with asyncio.timeout(30):
        await asyncio.gather(
            *(sending(own, task=task) for own in (db, other) for task in (False, True))
        )
    await other.dispose()
    assert sum(told(standin)) == 60
    assert len(standin.messages) > 1, "one message for all: this proved nothing"


async def test_all_kinds_together_keep_one_rate(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier
) -> None:
    """In any minute there are no more messages than allowed, dead letters go first, and none is
    lost.
    """
    pace = Pace(messages_per_minute=4)
    with engine.begin() as connection:
        start = rows.database_now(connection)
        for number in range(9):
            rows.add_alert(connection, kind=f"kind_{number}", next_attempt_at=start)
        die(connection, rows.add_endpoint(connection), start)
    counts = []
    kinds: list[str] = []
    for second in (0, 1, 30, 59, 61, 90, 122):
        moment = start + timedelta(seconds=second)
        sent = await send_due(db, courier, pace=pace, now=moment)
        counts.append(len(sent))
        kinds.extend(one.message.kind for one in sent)
    assert counts == [4, 0, 0, 0, 4, 0, 2]
    assert kinds[0] == "dead"
    assert all(row["receipt"] for row in every_alert(engine))


async def test_telegrams_pause_is_kept_by_all_senders(
    engine: Engine,
    db: AsyncEngine,
    database_url: str,
    courier: TelegramCourier,
    standin: TelegramStandIn,
) -> None:
    """What Telegram asks of one ops worker, every other one keeps too, for every kind."""
    other = database.async_engine(database_url)
    with engine.begin() as connection:
        start = rows.database_now(connection)
        rows.add_alert(connection, kind="redis_gone", next_attempt_at=start)
    standin.fail(telegram_standin.too_many(40))
    await send_due(db, courier, now=start)
    with engine.begin() as connection:
        die(connection, rows.add_endpoint(connection), start)
    async with TelegramCourier(TOKEN, CHAT, base_url=standin.base_url) as second:
        assert await send_due(other, second, now=start + timedelta(seconds=39)) == []
        assert len(standin.calls) == 1
        sent = await send_due(other, second, now=start + timedelta(seconds=41))
    await other.dispose()
    assert [one.message.kind for one in sent] == ["dead", "redis_gone"]


async def test_a_clock_that_was_set_back_holds_nothing_up(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier
) -> None:
    """Pauses and messages of a time that has not come yet are not waited for."""
    with engine.begin() as connection:
        now = rows.database_now(connection)
        rows.add_alert(connection, kind="dead", sent_at=now + timedelta(days=1), receipt="1")
        connection.execute(
            text("INSERT INTO signalpost.alert_pace (silent_until, begun) VALUES (:day, :begun)"),
            {"day": now + timedelta(days=1), "begun": [now + timedelta(days=1)] * 99},
        )
        die(connection, rows.add_endpoint(connection), now)
    assert [one.receipt for one in await send_due(db, courier, now=now)] == ["1"]


async def test_quiet_kinds_are_kept_and_not_sent(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """A quiet kind, and the end of a quiet trouble, end as `quiet`; the others are sent."""
    pace = Pace(quiet_kinds=frozenset({"redis_gone"}))
    with engine.begin() as connection:
        for kind in ("redis_gone", "redis_back", "clock_off"):
            rows.add_alert(connection, kind=kind)
    await send_due(db, courier, pace=pace)
    assert {row["kind"]: row["receipt"] for row in every_alert(engine)} == {
        "redis_gone": "quiet",
        "redis_back": "quiet",
        "clock_off": "1",
    }
    assert all(row["sent_at"] for row in every_alert(engine))
    assert len(standin.messages) == 1


async def test_dead_letters_are_never_quiet(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """Whatever a pace says of dead, expired and corrected, they are sent."""
    pace = Pace(quiet_kinds=frozenset({"dead", "expired", "corrected"}))
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection)
        now = rows.database_now(connection)
        die(connection, endpoint_id, now)
        die(connection, endpoint_id, now, kind="expired")
        rows.add_alert(connection, kind="corrected")
    await send_due(db, courier, pace=pace)
    assert len(standin.messages) == 3
