"""Alerts on a real database, sent by the real courier to a stand-in of the Bot API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import Engine, insert, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost import database
from signalpost.alerts import (
    Courier,
    LogCourier,
    Message,
    Pace,
    Receipt,
    Refused,
    courier_for,
    send_due,
)
from signalpost.demo import telegram_standin
from signalpost.demo.telegram_standin import TelegramStandIn
from signalpost.models import AlertRow, AttemptRow, DeliveryRow
from signalpost.repository import alerts, notices, told
from signalpost.settings import Settings
from signalpost.telegram import TelegramCourier
from tests import rows
from tests.couriers import CHAT, TOKEN
from tests.waiting import until

AT_ONCE = Pace(window_seconds=0, messages_per_minute=60)


class Thief:
    """A courier whose process is killed after the server has accepted the message."""

    def __init__(self, inner: Courier) -> None:
        self._inner = inner

    async def deliver(self, text_html: str) -> Receipt | Refused:
        await self._inner.deliver(text_html)
        raise asyncio.CancelledError


def add_dead_letter(engine: Engine, *, kind: str = "dead", **delivery: Any) -> tuple[int, UUID]:
    """A dead letter with its unsent alert; returns the ids of both."""
    with engine.begin() as connection:
        values = {
            "endpoint_id": delivery.pop("endpoint_id", None) or rows.add_endpoint(connection),
            "status": "dead",
            "reason": "exhausted",
            "attempts": 2,
            "next_attempt_at": None,
            "finished_at": rows.database_now(connection),
            **delivery,
        }
        delivery_id = rows.add_delivery(connection, **values)
        alert_id = rows.add_alert(
            connection, kind=kind, delivery_id=delivery_id, endpoint_id=values["endpoint_id"]
        )
    return alert_id, delivery_id


def add_attempt(engine: Engine, delivery_id: UUID, number: int, **values: Any) -> None:
    with engine.begin() as connection:
        row = {
            "delivery_id": delivery_id,
            "number": number,
            "claim_id": uuid4(),
            "worker_id": uuid4(),
            "started_at": rows.database_now(connection),
            "phase": "body",
            "outcome": "retry",
            "counted": True,
            **values,
        }
        connection.execute(insert(AttemptRow).values(row))


def alert(engine: Engine, alert_id: int) -> Mapping[str, Any]:
    with engine.connect() as connection:
        return next(row for row in rows.alerts(connection) if row["id"] == alert_id)


async def test_a_dead_letter_is_told_once_and_receipted(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """A due alert becomes one message, whose id is stored with it; a second look sends nothing."""
    alert_id, delivery_id = add_dead_letter(engine)
    add_attempt(engine, delivery_id, 1, status_code=500)
    add_attempt(engine, delivery_id, 2, status_code=429)

    (sent,) = await send_due(db, courier)
    again = await send_due(db, courier)

    assert again == []
    assert sent.receipt == "1"
    row = alert(engine, alert_id)
    assert (row["receipt"], row["tries"], row["error"]) == ("1", 1, None)
    assert row["sent_at"] is not None
    (message,) = standin.messages
    assert f"signalpost replay {delivery_id}" in message.plain
    assert "AAPL buy (open) to endpoint-" in message.plain
    assert "Attempts: 2; last: HTTP 429" in message.plain


async def test_an_alert_is_sent_by_its_id_alone(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """Asked for one alert, the message that it is in is sent and no other kind's, and only once."""
    add_dead_letter(engine, kind="expired")
    wanted, delivery_id = add_dead_letter(engine)
    assert [sent.receipt for sent in await send_due(db, courier, alert_id=wanted)] == ["1"]
    assert await send_due(db, courier, alert_id=wanted) == []
    assert await send_due(db, courier, alert_id=wanted + 100) == []
    assert [str(delivery_id) in message.text for message in standin.messages] == [True]


async def test_a_round_sends_no_more_than_its_limit_and_dead_letters_first(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier
) -> None:
    """With more kinds due than the limit, those about deliveries go first, then the oldest."""
    with engine.begin() as connection:
        rows.add_alert(connection, kind="clock_off")
    add_dead_letter(engine)
    older, _ = add_dead_letter(engine, kind="expired")
    with engine.begin() as connection:
        late = update(AlertRow).where(AlertRow.id == older)
        connection.execute(late.values(next_attempt_at=datetime(2020, 1, 1, tzinfo=UTC)))
    kinds = [sent.message.kind for sent in await send_due(db, courier, limit=2)]
    assert kinds == ["expired", "dead"]
    assert [sent.message.kind for sent in await send_due(db, courier)] == ["clock_off"]


async def test_two_senders_send_each_alert_once(
    engine: Engine, db: AsyncEngine, database_url: str, standin: TelegramStandIn
) -> None:
    """Two senders at the same alerts share them: none twice, none left out."""
    kinds = [f"kind_{number}" for number in range(12)]
    with engine.begin() as connection:
        for kind in kinds:
            rows.add_alert(connection, kind=kind)
    other = database.async_engine(database_url)

    async def run(own: AsyncEngine) -> int:
        url = standin.base_url
        async with TelegramCourier(TOKEN, CHAT, base_url=url, spacing_seconds=0) as courier:
            return len(await send_due(own, courier, pace=AT_ONCE))

    counts = await asyncio.gather(run(db), run(other))
    await other.dispose()

    assert sum(counts) == 12
    assert min(counts) > 0, "one sender did it all: this proved nothing"
    titles = {message.plain.splitlines()[0] for message in standin.messages}
    assert len(standin.messages) == len(titles) == 12


async def test_one_alert_asked_for_twice_at_once_is_sent_once(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """Two tasks for the same alert at the same moment give one message."""
    alert_id, _ = add_dead_letter(engine)
    answers = await asyncio.gather(*(send_due(db, courier, alert_id=alert_id) for _ in range(4)))
    assert sorted(len(answer) for answer in answers) == [0, 0, 0, 1]
    assert len(standin.messages) == 1


async def test_a_kill_between_sending_and_receipt_costs_one_repeat(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """A sender that dies with the message out leaves the alert claimed; past the lease it is
    sent once more, receipted, and never again.
    """
    alert_id, _ = add_dead_letter(engine)
    with pytest.raises(asyncio.CancelledError):
        await send_due(db, Thief(courier))
    now = alert(engine, alert_id)["next_attempt_at"] - timedelta(seconds=alerts.LEASE_SECONDS)

    assert await send_due(db, courier, now=now + timedelta(seconds=59)) == []
    assert len(standin.messages) == 1
    (sent,) = await send_due(db, courier, now=now + timedelta(seconds=61))
    assert sent.receipt == "2"
    assert await send_due(db, courier, now=now + timedelta(hours=1)) == []
    assert len(standin.messages) == 2


async def test_a_database_that_fails_after_the_sending_causes_no_repeat(
    engine: Engine,
    db: AsyncEngine,
    courier: TelegramCourier,
    standin: TelegramStandIn,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The receipt of a sent message waits for the database instead of being forgotten."""
    alert_id, _ = add_dead_letter(engine)
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    class Breaker:
        async def deliver(self, text_html: str) -> Receipt | Refused:
            answer = await courier.deliver(text_html)
            lock_writes(url, "on")
            return answer

    sending = asyncio.create_task(send_due(db, Breaker()))
    await until(lambda: "its receipt waits for the database" in caplog.text)
    lock_writes(url, "off")
    engine.dispose()  # its idle connections were cut as well
    (sent,) = await sending

    assert sent.receipt == "1"
    assert alert(engine, alert_id)["receipt"] == "1"
    assert len(standin.messages) == 1


def lock_writes(url: str, value: str) -> None:
    """Let a database be read-only for every connection from now on, or no longer."""
    name = url.rsplit("/", 1)[1]
    options = "-c default_transaction_read_only=off"
    with psycopg.connect(url, autocommit=True, options=options) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid()",
            [name],
        )


async def test_telegrams_pause_is_kept(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """After a 429 the alert is due when Telegram's seconds have passed, not before."""
    alert_id, _ = add_dead_letter(engine)
    with engine.connect() as connection:
        now = rows.database_now(connection)
    standin.fail(telegram_standin.too_many(40))

    (put_off,) = await send_due(db, courier, now=now, chance=lambda: 0.9)

    assert put_off.receipt is None
    assert put_off.again_in_seconds == put_off.quiet_seconds == 40
    row = alert(engine, alert_id)
    assert row["next_attempt_at"] == now + timedelta(seconds=40)
    assert row["error"] == "Telegram asks for a pause"
    assert await send_due(db, courier, now=now + timedelta(seconds=39)) == []
    assert len(standin.calls) == 1
    (sent,) = await send_due(db, courier, now=now + timedelta(seconds=41))
    assert sent.receipt == "1"
    assert alert(engine, alert_id)["error"] is None


@pytest.mark.parametrize("chance", [0.0, 0.8])
async def test_an_outage_is_outlasted_at_growing_distance(
    engine: Engine,
    db: AsyncEngine,
    courier: TelegramCourier,
    standin: TelegramStandIn,
    chance: float,
) -> None:
    """Tries go on at 2, 4, 8 ... 60 s, with jitter on top, and never end before the receipt."""
    alert_id, _ = add_dead_letter(engine)
    with engine.connect() as connection:
        now = rows.database_now(connection)
    standin.fail_until_healed(telegram_standin.BAD_GATEWAY)

    waits = []
    for _ in range(15):
        (put_off,) = await send_due(db, courier, now=now, chance=lambda: chance)
        assert put_off.again_in_seconds is not None
        waits.append(put_off.again_in_seconds)
        now += timedelta(seconds=put_off.again_in_seconds)

    expected = [2.0, 4.0, 8.0, 16.0, 32.0, *[60.0] * 10]
    assert waits == pytest.approx([wait * (1 + chance / 4) for wait in expected])
    standin.heal()
    assert [sent.receipt for sent in await send_due(db, courier, now=now)] == ["1"]
    assert alert(engine, alert_id)["tries"] == 16


async def test_what_a_person_must_mend_is_tried_slowly_for_ever(
    engine: Engine,
    db: AsyncEngine,
    courier: TelegramCourier,
    standin: TelegramStandIn,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A wrong chat is logged as an error, kept with the alert, and tried again every minute."""
    alert_id, _ = add_dead_letter(engine)
    with engine.connect() as connection:
        now = rows.database_now(connection)
    standin.chat_id = "1"

    for _ in range(3):
        (put_off,) = await send_due(db, courier, now=now)
        assert put_off.again_in_seconds == 60
        now += timedelta(seconds=60)
    assert "OPS_TELEGRAM_CHAT_ID" in alert(engine, alert_id)["error"]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3
    assert all("OPS_TELEGRAM_CHAT_ID" in record.getMessage() for record in errors)
    standin.chat_id = CHAT
    assert [sent.receipt for sent in await send_due(db, courier, now=now)] == ["1"]


async def test_a_refusal_ends_the_round(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """While Telegram is away, one round asks it once, and the other alerts stay due."""
    for kind in ("dead", "expired", "corrected"):
        add_dead_letter(engine, kind=kind)
    standin.fail(telegram_standin.CUT)
    assert [sent.receipt for sent in await send_due(db, courier)] == [None]
    assert len(standin.calls) == 1
    assert len(await send_due(db, courier)) == 2


async def test_a_text_that_telegram_does_not_take_is_told_in_brief(
    engine: Engine,
    db: AsyncEngine,
    courier: TelegramCourier,
    standin: TelegramStandIn,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where Telegram refuses the very text, the operator gets the kind, the count and a command."""
    alert_id, _ = add_dead_letter(engine)
    standin.fail(telegram_standin.Fault(400, "Bad Request: can't parse entities: odd"))
    assert [sent.receipt for sent in await send_due(db, courier)] == ["1"]
    assert alert(engine, alert_id)["receipt"] == "1"
    first, second = standin.messages[0].plain.splitlines()
    assert first.startswith("1 alert of kind dead, since 2")
    assert second.startswith("All: signalpost alerts list --kind dead --since 2")
    assert "told in brief, please report it" in caplog.text


@pytest.mark.parametrize("details", [["a", "list"], "words", 7])
async def test_a_notice_with_odd_details_holds_nothing_up(
    engine: Engine,
    db: AsyncEngine,
    courier: TelegramCourier,
    standin: TelegramStandIn,
    details: Any,
) -> None:
    """Whatever stands in an alert's details, it is told, and so is every other alert."""
    with engine.begin() as connection:
        rows.add_alert(connection, kind="clock_off", details=details)
    add_dead_letter(engine)
    assert [sent.receipt for sent in await send_due(db, courier)] == ["1", "2"]
    assert standin.messages[1].plain.startswith("Clock off\n")


async def test_a_late_success_is_told_as_it_stands(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """An alert of death, unsent when the delivery arrived after all, does not call it dead."""
    _, delivery_id = add_dead_letter(engine)
    with engine.begin() as connection:
        moved = update(DeliveryRow).where(DeliveryRow.id == delivery_id)
        connection.execute(moved.values(status="delivered", reason=None))
        rows.add_alert(connection, kind="corrected", delivery_id=delivery_id)
    await send_due(db, courier)
    death, correction = (message.plain for message in standin.messages)
    assert "It was dead, but has been delivered since; do not replay it." in death
    assert correction.startswith("Corrected: AAPL buy (open) to endpoint-")
    assert "signalpost replay" not in death + correction


async def test_a_notice_without_a_delivery_is_sent(
    engine: Engine, db: AsyncEngine, courier: TelegramCourier, standin: TelegramStandIn
) -> None:
    """A notice about the system goes the same way, with its labels escaped."""
    with engine.begin() as connection:
        rows.add_alert(connection, kind="clock_off", details={"worker": "<b>", "seconds": "3.2"})
    assert [sent.receipt for sent in await send_due(db, courier)] == ["1"]
    assert "Details: worker <b>, seconds 3.2" in standin.messages[0].plain


@pytest.mark.parametrize("kind", ["clock_off", "heartbeat"])
def test_a_notice_of_a_clock_that_was_set_back_mutes_nothing(engine: Engine, kind: str) -> None:
    """What was raised in what is now the future keeps no notice back until then."""
    with engine.begin() as connection:
        first = notices.raise_notice(connection, kind=kind)
        assert first is not None
        rows.mark_alert_sent(connection, first)
        assert notices.raise_notice(connection, kind=kind) is None
        assert notices.lately(connection, kind=kind, seconds=60.0)
        connection.execute(text("UPDATE signalpost.alerts SET created_at = now() + interval '1 h'"))
        assert not notices.lately(connection, kind=kind, seconds=60.0)
        assert notices.raise_notice(connection, kind=kind) is not None


async def test_nothing_private_is_told_or_logged(
    engine: Engine,
    db: AsyncEngine,
    courier: TelegramCourier,
    standin: TelegramStandIn,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither message, log nor result holds the body, an excerpt, a detail, a secret or the
    token; markup in an endpoint's name reaches the chat as plain characters.
    """
    caplog.set_level(logging.DEBUG)
    private = ["1.23456", "because of the moon", "excerpt-bytes", "detail-text", "sealed-secret"]
    with engine.begin() as connection:
        signal_id = rows.add_signal(connection, body=f"{private[0]} {private[1]}".encode())
        endpoint_id = rows.add_endpoint(
            connection, name="<b>&x</code>", secret_ciphertext=private[4].encode()
        )
    _, delivery_id = add_dead_letter(engine, signal_id=signal_id, endpoint_id=endpoint_id)
    add_attempt(engine, delivery_id, 1, excerpt=private[2].encode(), detail=private[3])
    standin.fail(telegram_standin.WRONG_CHAT)

    results = await send_due(db, courier)
    results += await send_due(db, courier, now=datetime.now(UTC) + timedelta(minutes=5))

    assert [result.receipt for result in results] == [None, "1"]
    assert "to <b>&x</code>" in standin.messages[0].plain
    everything = caplog.text + repr(results) + standin.messages[0].text
    assert [word for word in [*private, TOKEN] if word in everything] == []


def test_only_the_newest_claim_puts_an_alert_off(engine: Engine) -> None:
    """A sender that slept past its lease neither delays its successor nor loses a receipt."""
    alert_id, _ = add_dead_letter(engine)
    with engine.begin() as connection:
        now = rows.database_now(connection)

        def claim(seconds: float) -> Message | None:
            later = now + timedelta(seconds=seconds)
            return alerts.claim_message(connection, pace=AT_ONCE, now=later)

        first = claim(0)
        assert claim(59) is None
        second = claim(61)
        assert first is not None
        assert second is not None
        assert not alerts.put_off(connection, first, seconds=1, error="old", now=now)
        assert alerts.put_off(connection, second, seconds=5, error="new", now=now)
        assert alerts.mark_sent(connection, [alert_id], "7", now=now)
        assert not alerts.mark_sent(connection, [alert_id], "8", now=now)
        assert not alerts.put_off(connection, second, seconds=5, error="late", now=now)
        assert claim(86_400) is None
    row = alert(engine, alert_id)
    assert (row["receipt"], row["tries"], row["error"]) == ("7", 2, None)


async def test_without_telegram_the_log_line_is_the_receipt(
    engine: Engine, db: AsyncEngine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With no Telegram settings an alert is one readable warning, and counts as sent."""
    alert_id, delivery_id = add_dead_letter(engine)
    async with courier_for(Settings(database_url=database_url)) as courier:
        assert isinstance(courier, LogCourier)
        await send_due(db, courier)
    assert alert(engine, alert_id)["receipt"] == "log"
    (line,) = [r for r in caplog.records if r.getMessage().startswith("ALERT ")]
    assert line.levelno == logging.WARNING
    assert "\n" not in line.getMessage()
    assert "Dead letter: AAPL buy (open) to endpoint-" in line.getMessage()
    assert f"signalpost replay {delivery_id}" in line.getMessage()
    assert "<" not in line.getMessage()


async def test_the_settings_choose_telegram(
    engine: Engine, db: AsyncEngine, database_url: str, standin: TelegramStandIn
) -> None:
    """With a token and a chat the alert goes to Telegram, at the address that is set."""
    add_dead_letter(engine)
    settings = Settings(
        database_url=database_url,
        ops_telegram_bot_token=TOKEN,
        ops_telegram_chat_id=CHAT,
        ops_telegram_base_url=standin.base_url,
    )
    async with courier_for(settings) as courier:
        assert [sent.receipt for sent in await send_due(db, courier)] == ["1"]
    assert len(standin.messages) == 1


def test_sent_alerts_cost_the_next_one_nothing(engine: Engine) -> None:
    """With 200,000 sent alerts, no statement of a message's life scans the table."""
    alert_id, _ = add_dead_letter(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO signalpost.alerts (kind, sent_at, receipt)"
                " SELECT 'dead', clock_timestamp(), '1' FROM generate_series(1, 200000)"
            )
        )
        now = rows.database_now(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE signalpost.alerts"))
    values = {
        "now": now,
        "lease_seconds": 60.0,
        "window_seconds": 60.0,
        "alert_id": alert_id,
        "ids": [alert_id],
        "tries": [1],
        "kind": "dead",
        "kinds": ["clock_off"],
        "loud": ["dead"],
        "most": 1000,
        "seconds": 1.0,
        "error": "x",
        "receipt": "1",
    }
    statements = [
        *(alerts.ANY_DUE, alerts.HUSH, alerts.CHOOSE_KIND, alerts.CLAIM, alerts.MARK_SENT),
        *(alerts.PUT_OFF, told.READ, told.SPAN, told.TALLIES),
    ]
    with engine.connect() as connection:
        for statement in statements:
            wanted = {n: v for n, v in values.items() if f":{n}" in statement.text}
            lines = connection.execute(text(f"EXPLAIN {statement.text}"), wanted).scalars()
            plan = "\n".join(lines)
            assert "Seq Scan on alerts" not in plan, plan
            assert "Index" in plan
