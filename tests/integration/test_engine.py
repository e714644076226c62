from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web
from sqlalchemy import Connection, Engine, text

from signalpost.clock import Clocks, steady_seconds
from signalpost.core.outcomes import Answer, Phase
from signalpost.core.signing import Profile, verify
from signalpost.errors import RecordHeld
from signalpost.repository.recorded import Recorded
from signalpost.secretbox import SecretBox
from tests import receivers, rows
from tests.engines import SEALED, SECRET, engine_rig
from tests.waiting import counts, until

BODY = b'{"instrument":"AAPL"}'


def deliveries(engine: Engine, url: str, count: int = 1, **values: Any) -> list[UUID]:
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection, url=url, secret_ciphertext=SEALED)
        return [
            rows.add_delivery(
                connection,
                endpoint_id=endpoint_id,
                signal_id=rows.add_signal(connection, body=BODY),
                **values,
            )
            for _ in range(count)
        ]


def look(engine: Engine, question: Callable[[Connection], Any]) -> Any:
    with engine.connect() as connection:
        return question(connection)


async def test_a_delivery_goes_out_signed_and_is_recorded(
    engine: Engine, database_url: str
) -> None:
    """One call claims, signs in all three formats, sends the stored bytes and records it."""
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        (delivery_id,) = deliveries(engine, receiver.url)
        report = await rig.engine.deliver(delivery_id)
    assert (report.outcome, report.status, report.attempt) == ("delivered", "delivered", 1)
    (seen,) = receiver.seen
    assert seen.body == BODY
    assert seen.delivery_id == str(delivery_id)
    for profile in Profile:
        verify(
            method="POST",
            headers=seen.headers,
            body=seen.body,
            url=receiver.url,
            secrets=[SECRET],
            profile=profile,
            now=datetime.now(UTC),
        )


async def test_a_second_message_finds_nothing_to_claim(engine: Engine, database_url: str) -> None:
    """A message left over after its delivery is done says so and sends nothing."""
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        (delivery_id,) = deliveries(engine, receiver.url)
        await rig.engine.deliver(delivery_id)
        again = await rig.engine.deliver(delivery_id)
        missing = await rig.engine.deliver(uuid4())
    assert (again.outcome, again.detail) == ("not_claimed", "finished already")
    assert (missing.outcome, missing.detail) == ("not_claimed", "no such delivery")
    assert len(receiver.seen) == 1


async def test_two_messages_for_one_delivery_at_once_send_it_once(
    engine: Engine, database_url: str
) -> None:
    """A broker that delivers a message twice in parallel does not make the receiver see two."""
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        (delivery_id,) = deliveries(engine, receiver.url)
        reports = await asyncio.gather(*(rig.engine.deliver(delivery_id) for _ in range(20)))
    assert sorted(report.outcome for report in reports).count("delivered") >= 1
    assert len(receiver.seen) == 1


async def test_a_retry_says_when_and_ends_dead_with_an_alert(
    engine: Engine, database_url: str
) -> None:
    """Failures follow the schedule until the budget is spent; the last one raises the alert."""
    async with (
        receivers.receiver(receivers.status(503)) as receiver,
        engine_rig(database_url) as rig,
    ):
        (delivery_id,) = deliveries(engine, receiver.url)
        waits = []
        report = await rig.engine.deliver(delivery_id)
        while report.retry_in_seconds is not None:
            waits.append(report.retry_in_seconds)
            await asyncio.sleep(report.retry_in_seconds)
            report = await rig.engine.deliver(delivery_id)
    tried = [wait for wait in waits if wait >= 0.05]
    assert tried == [0.05, 0.1, 0.2]
    assert (report.outcome, report.status) == ("retry", "dead")
    (alert,) = look(engine, rows.alerts)
    assert rig.announced == [alert["id"]] == [report.alert_id]
    assert len(receiver.seen) == 4


async def test_a_drain_sends_everything_due_and_sees_to_its_own_retries(
    engine: Engine, database_url: str
) -> None:
    """All due rows go out through the window; refused ones are retried by timers, in time."""
    refused: set[str] = set()

    async def answer(seen: receivers.Seen) -> web.Response:
        if int(UUID(seen.delivery_id)) % 3 == 0 and seen.delivery_id not in refused:
            refused.add(seen.delivery_id)
            return web.Response(status=503)
        return web.Response(status=201)

    async with (
        receivers.receiver(answer) as receiver,
        engine_rig(database_url, window_size=10) as rig,
    ):
        ids = deliveries(engine, receiver.url, 60)
        tally = await rig.engine.drain()
        await until(lambda: counts(engine) == {"delivered": 60})
    assert tally["retry"] == len(refused) > 0
    accepted = [seen.delivery_id for seen in receiver.seen]
    assert len(accepted) == 60 + len(refused)
    assert set(accepted) == {str(delivery_id) for delivery_id in ids}


async def test_a_second_drain_joins_the_first_and_makes_it_look_again(
    engine: Engine, database_url: str
) -> None:
    """What was committed before a ring is sent by the running drain, whenever the ring came."""
    gate, answer = receivers.gated()

    async with (
        receivers.receiver(answer) as receiver,
        engine_rig(database_url, window_size=1) as rig,
    ):
        deliveries(engine, receiver.url, 2)
        first = asyncio.create_task(rig.engine.drain())
        await receiver.wait_for(1)
        deliveries(engine, receiver.url, 3)
        joined = await rig.engine.drain()
        gate.set()
        tally = await first
    assert joined == {"joined": 1}
    assert tally["delivered"] == 5


async def test_what_nobody_rang_for_is_rescued(engine: Engine, database_url: str) -> None:
    """A due row without any message goes out within seconds, straight from PostgreSQL."""
    async with receivers.receiver() as receiver, engine_rig(database_url):
        deliveries(engine, receiver.url, 3)
        await until(lambda: counts(engine) == {"delivered": 3}, seconds=6)


async def test_nothing_is_sent_after_the_end_of_life(engine: Engine, database_url: str) -> None:
    """A delivery whose life is over is expired with an alert, before any byte of it is sent."""
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        past = datetime.now(UTC) - timedelta(seconds=1)
        (delivery_id,) = deliveries(engine, receiver.url, expires_at=past)
        report = await rig.engine.deliver(delivery_id)
    assert (report.outcome, report.status) == ("expired", "expired")
    assert receiver.seen == []
    (alert,) = look(engine, rows.alerts)
    assert alert["kind"] == "expired"
    assert alert["id"] in rig.announced


async def test_a_worker_that_is_disabled_sends_nothing_but_lets_signals_expire(
    engine: Engine, database_url: str
) -> None:
    """With sending disabled at start, signals wait, and expire with their alerts."""
    async with receivers.receiver() as receiver, engine_rig(database_url, enabled=False) as rig:
        (waiting,) = deliveries(engine, receiver.url)
        soon = datetime.now(UTC) + timedelta(seconds=0.2)
        deliveries(engine, receiver.url, expires_at=soon)
        report = await rig.engine.deliver(waiting)
        assert await rig.engine.drain() == {}
        await until(lambda: counts(engine) == {"pending": 1, "expired": 1})
    assert report.outcome == "not_claimed"
    assert "HMAC_PRODUCER_ENABLED" in report.detail
    assert receiver.seen == []


async def test_a_secret_that_cannot_be_read_keeps_its_deliveries_pending(
    engine: Engine, database_url: str
) -> None:
    """No attempt is counted, nothing is sent, and the operator is told once."""
    stranger = SecretBox([SecretBox.new_key()])
    async with receivers.receiver() as receiver, engine_rig(database_url, box=stranger) as rig:
        ids = deliveries(engine, receiver.url, 3)
        for delivery_id in ids:
            await rig.engine.deliver(delivery_id)
        await until(lambda: len(look(engine, rows.alerts)) == 1)
        row = look(engine, lambda connection: rows.delivery(connection, ids[0]))
    assert (row["status"], row["spent"]) == ("pending", 0)
    assert receiver.seen == []
    (alert,) = look(engine, rows.alerts)
    assert alert["kind"] == "secret_unreadable"


async def test_a_url_that_cannot_be_sent_to_is_retried_and_ends_dead(
    engine: Engine, database_url: str
) -> None:
    """A stored URL that no request can be made of is a failure like any other, not a crash."""
    async with engine_rig(database_url) as rig:
        (delivery_id,) = deliveries(engine, "http://[::1/hook")
        report = await rig.engine.deliver(delivery_id)
    assert (report.outcome, report.detail) == ("retry", "invalid_url")


async def test_a_wall_clock_that_is_off_stops_the_sending_and_is_alerted(
    engine: Engine, database_url: str
) -> None:
    """A signature with a wrong time would be refused, so nothing is sent and somebody is told."""
    clocks = Clocks(wall=lambda: datetime.now(UTC) + timedelta(seconds=5))
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, clocks=clocks) as rig,
    ):
        (delivery_id,) = deliveries(engine, receiver.url)
        report = await rig.engine.deliver(delivery_id)
        await until(lambda: len(look(engine, rows.alerts)) == 1)
    assert report.outcome == "not_claimed"
    assert receiver.seen == []
    (alert,) = look(engine, rows.alerts)
    assert (alert["kind"], alert["details"]["worker"]) == ("clock_off", "tests:1")


async def test_without_a_fresh_lease_nothing_is_claimed(engine: Engine, database_url: str) -> None:
    """An engine that cannot renew may have been declared dead, so it begins nothing."""
    ahead = 0.0
    clocks = Clocks(steady=lambda: steady_seconds() + ahead)
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, clocks=clocks, start=False) as rig,
    ):
        (delivery_id,) = deliveries(engine, receiver.url)
        assert (await rig.engine.deliver(delivery_id)).outcome == "not_claimed"
        await rig.engine.vigil.renew()
        ahead = 8.5
        assert (await rig.engine.deliver(delivery_id)).outcome == "not_claimed"
        assert receiver.seen == []
        # Its message is used up: it goes out by the look at the lease's return.
        await rig.engine.vigil.renew()
        await until(lambda: counts(engine) == {"delivered": 1}, seconds=5)
    assert len(receiver.seen) == 1


async def test_a_claim_from_before_a_gap_writes_no_first_byte(
    engine: Engine, database_url: str
) -> None:
    """After a lapsed lease the claim may be another's already: it is given back unsent."""
    ahead = 0.0
    clocks = Clocks(steady=lambda: steady_seconds() + ahead)
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, clocks=clocks, start=False) as rig,
    ):
        (delivery_id,) = deliveries(engine, receiver.url)
        await rig.engine.vigil.renew()
        (claim,) = (await rig.outbox.claim_due(limit=1, overdue_seconds=0)).claims
        flight = rig.dispatcher.take(claim, epoch=rig.lease.epoch)
        ahead = 9.0
        await rig.engine.vigil.renew()
        report = await rig.dispatcher.attempt(flight)
        row = look(engine, lambda connection: rows.delivery(connection, delivery_id))
    assert (report.outcome, report.detail) == ("released", "lease_lapsed")
    assert receiver.seen == []
    assert (row["status"], row["spent"]) == ("pending", 0)


async def test_claims_of_a_silent_worker_are_taken_back_as_lost(
    engine: Engine, database_url: str
) -> None:
    """A worker killed in mid-POST loses its claims; they count as unknown and are tried again."""
    async with receivers.receiver() as receiver, engine_rig(database_url, start=False) as rig:
        (delivery_id,) = deliveries(engine, receiver.url)
        await rig.engine.vigil.renew()
        with engine.begin() as connection:
            now = rows.database_now(connection)
            dead = rows.add_worker(connection, renewed_at=now - timedelta(seconds=11))
            connection.execute(
                text(
                    "UPDATE signalpost.deliveries SET status = 'sending', claim_id = :claim,"
                    " worker_id = :worker, claimed_at = :now, attempts = 1"
                ),
                {"claim": uuid4(), "worker": dead, "now": now},
            )
        early = await rig.outbox.take_back(rig.dispatcher.judge_lost, silence_seconds=20)
        found = await rig.outbox.take_back(rig.dispatcher.judge_lost, silence_seconds=10)
        (taken,) = found.values()
        row = look(engine, lambda connection: rows.delivery(connection, delivery_id))
        (attempt,) = look(engine, lambda connection: rows.attempts(connection, delivery_id))
    assert early == {}
    assert taken.applied
    assert (row["status"], row["maybe_received"], row["spent"]) == ("pending", True, 1)
    assert (attempt["outcome"], attempt["failure"]) == ("unknown", "claim_lost")
    assert attempt["worker_id"] == dead


async def test_a_claim_whose_answer_was_lost_is_ended_by_its_own_worker(
    engine: Engine, database_url: str
) -> None:
    """A claim committed on a connection that then broke is found and ended at the second look."""
    async with receivers.receiver() as receiver, engine_rig(database_url, start=False) as rig:
        (delivery_id,) = deliveries(engine, receiver.url)
        await rig.engine.vigil.renew()
        await rig.outbox.claim_due(limit=1, overdue_seconds=0)
        await rig.engine.vigil.end_unheld_claims()
        assert counts(engine) == {"sending": 1}
        await rig.engine.vigil.end_unheld_claims()
        (attempt,) = look(engine, lambda connection: rows.attempts(connection, delivery_id))
    assert counts(engine) == {"pending": 1}
    assert attempt["failure"] == "claim_lost"


async def test_a_claim_in_the_air_is_never_taken_for_a_lost_one(
    engine: Engine, database_url: str
) -> None:
    """Looking for lost claims while requests are under way ends none of them."""
    gate, answer = receivers.gated()

    async with receivers.receiver(answer) as receiver, engine_rig(database_url) as rig:
        deliveries(engine, receiver.url, 5)
        draining = asyncio.create_task(rig.engine.drain())
        await receiver.wait_for(5)
        for _ in range(3):
            await rig.engine.vigil.end_unheld_claims()
        gate.set()
        tally = await draining
    assert tally["delivered"] == 5
    assert len(receiver.seen) == 5


async def test_shutdown_lets_requests_finish_and_begins_no_new_ones(
    engine: Engine, database_url: str
) -> None:
    """What is in flight at SIGTERM is answered and recorded; what is not stays for others."""
    gate, answer = receivers.gated()

    async with receivers.receiver(answer) as receiver, engine_rig(database_url) as rig:
        (flying,) = deliveries(engine, receiver.url)
        going = asyncio.create_task(rig.engine.deliver(flying))
        await receiver.wait_for(1)
        rig.engine.begin_shutdown()
        (other,) = deliveries(engine, receiver.url)
        refused = await rig.engine.deliver(other)
        gate.set()
        finished = await going
    assert refused.shutting_down
    assert finished.outcome == "delivered"
    assert counts(engine) == {"delivered": 1, "pending": 1}


async def test_a_request_that_outlasts_the_shutdown_is_recorded_as_unknown(
    engine: Engine, database_url: str
) -> None:
    """The deadline cuts what is still open; the receiver may have acted, and the record says so."""

    async def answer(_: receivers.Seen) -> web.Response:
        await asyncio.sleep(60)
        return web.Response(status=201)

    async with (
        receivers.receiver(answer) as receiver,
        engine_rig(database_url, shutdown_seconds=0.2) as rig,
    ):
        (delivery_id,) = deliveries(engine, receiver.url)
        going = asyncio.create_task(rig.engine.deliver(delivery_id))
        await receiver.wait_for(1)
        rig.engine.begin_shutdown()
        report = await going
        row = look(engine, lambda connection: rows.delivery(connection, delivery_id))
    assert (report.outcome, report.detail) == ("unknown", "shutdown")
    assert (row["status"], row["maybe_received"]) == ("pending", True)


async def test_connections_killed_by_the_server_cost_no_record(
    engine: Engine, database_url: str
) -> None:
    """Every backend terminated in mid-flight: the answers are still recorded, each once."""
    gate, answer = receivers.gated()

    async with receivers.receiver(answer) as receiver, engine_rig(database_url) as rig:
        deliveries(engine, receiver.url, 10)
        draining = asyncio.create_task(rig.engine.drain())
        await receiver.wait_for(10)
        with engine.begin() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        gate.set()
        tally = await draining
        await until(lambda: counts(engine) == {"delivered": 10})
    assert tally["delivered"] == 10
    assert len(receiver.seen) == 10


async def test_one_record_that_the_database_refuses_does_not_hide_the_others(
    engine: Engine, database_url: str
) -> None:
    """A refused row is isolated by halving and recorded bare; its neighbours stay whole."""
    async with receivers.receiver() as receiver, engine_rig(database_url, start=False) as rig:
        deliveries(engine, receiver.url, 9)
        await rig.engine.vigil.renew()
        taken = (await rig.outbox.claim_due(limit=9, overdue_seconds=0)).claims
        answers = [
            Answer(Phase.BODY, 0.1, status_code=201, detail="a NUL \x00" if number == 4 else "")
            for number in range(9)
        ]
        records = [
            rig.dispatcher.judge(claim, answer)
            for claim, answer in zip(taken, answers, strict=True)
        ]
        results = await rig.outbox.record(records)
        with engine.connect() as connection:
            details = [rows.attempts(connection, item.delivery_id)[0] for item in taken]
    assert all(isinstance(result, Recorded) and result.applied for result in results)
    assert counts(engine) == {"delivered": 9}
    assert [item["detail"] for item in details].count("the record was refused") == 1


async def test_a_refused_record_beside_a_held_one_does_not_hide_the_others(
    engine: Engine, database_url: str
) -> None:
    """While somebody holds one delivery, a refused row is recorded bare and the others whole."""
    async with receivers.receiver() as receiver, engine_rig(database_url, start=False) as rig:
        deliveries(engine, receiver.url, 6)
        await rig.engine.vigil.renew()
        taken = (await rig.outbox.claim_due(limit=6, overdue_seconds=0)).claims
        records = [
            rig.dispatcher.judge(
                claim,
                Answer(Phase.BODY, 0.1, status_code=201, detail="\x00" if number == 2 else ""),
            )
            for number, claim in enumerate(taken)
        ]
        with engine.begin() as somebody:
            lock = text("SELECT FROM signalpost.deliveries WHERE id = :id FOR UPDATE")
            somebody.execute(lock, {"id": taken[0].delivery_id})
            results = await rig.outbox.record(records)
    assert isinstance(results[0], RecordHeld)
    assert all(isinstance(result, Recorded) and result.applied for result in results[1:])
    assert counts(engine) == {"sending": 1, "delivered": 5}


async def test_an_engine_that_ends_waits_for_the_claim_that_is_being_made(
    engine: Engine, database_url: str
) -> None:
    """A claim whose statement is under way at the end is sent and recorded, not left for lost."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with receivers.receiver() as receiver, engine_rig(database_url, start=False) as rig:
        deliveries(engine, receiver.url)
        await rig.engine.vigil.renew()
        with engine.connect() as connection:
            connection.execute(text("LOCK TABLE signalpost.deliveries IN ACCESS EXCLUSIVE MODE"))
            draining = asyncio.create_task(rig.engine.drain())
            await until(lambda: look(engine, lambda c: c.execute(waiting).scalar_one()) == 1)
            finishing = asyncio.create_task(rig.engine.finish())
            done, _ = await asyncio.wait({finishing}, timeout=0.2)
            connection.rollback()
        await finishing
        ended = counts(engine)
        await draining
    assert not done
    assert ended == {"delivered": 1}
    assert len(receiver.seen) == 1
