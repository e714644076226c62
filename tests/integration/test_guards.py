"""Guards of an attempt's record: each fails here once its branch is taken out."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from signalpost.core.outcomes import Failure, Phase
from signalpost.repository import liveness
from tests import rows
from tests.engines import SEALED, engine_rig
from tests.raw_receiver import OK, Conversation, RawReceiver
from tests.waiting import counts, until


async def test_an_attempt_ends_with_the_life_of_its_delivery(
    engine: Engine, database_url: str
) -> None:
    """A receiver that keeps silent is not waited for past the expiry, whatever the timeout says."""

    async def silent(talk: Conversation) -> None:
        await talk.gone()

    async with RawReceiver(silent) as receiver, engine_rig(database_url):
        with engine.begin() as connection:
            delivery_id = rows.add_delivery(
                connection,
                endpoint_id=rows.add_endpoint(
                    connection, url=receiver.url, secret_ciphertext=SEALED, timeout_seconds=60
                ),
                expires_at=rows.database_now(connection) + timedelta(seconds=3),
            )
        await until(lambda: counts(engine).keys() <= {"dead", "expired"}, seconds=20)
    with engine.connect() as connection:
        (attempt,) = rows.attempts(connection, delivery_id)
    assert attempt["outcome"] == "unknown"
    assert attempt["duration_seconds"] < 3


async def test_an_answer_that_is_being_recorded_is_not_cut(
    engine: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A lease that lapses between answer and record does not make an unknown of a success."""
    holder = engine.connect()
    delivery_id = uuid4()

    async def answers(talk: Conversation) -> None:
        await talk.request()
        lock = text("SELECT FROM signalpost.deliveries WHERE id = :id FOR UPDATE")
        holder.execute(lock, {"id": delivery_id})
        await talk.say(OK)
        await talk.gone()

    async with RawReceiver(answers) as receiver, engine_rig(database_url, start=False) as rig:
        with engine.begin() as connection:
            endpoint_id = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            rows.add_delivery(connection, id=delivery_id, endpoint_id=endpoint_id)
        await rig.engine.start()
        await until(lambda: "not recorded yet" in caplog.text, seconds=20)
        (flight,) = rig.dispatcher.flights.values()
        flight.abort(Failure.LEASE)
        holder.rollback()
        await until(lambda: counts(engine) == {"delivered": 1}, seconds=20)
    holder.close()
    with engine.connect() as connection:
        assert [row["outcome"] for row in rows.attempts(connection, delivery_id)] == ["delivered"]


@pytest.mark.parametrize(
    ("said", "outcome", "answer"),
    [
        (b"200 OK\r\n", "delivered", 200),
        (b"429 Slow\r\nRetry-After: 100\r\n", "retry", 429),
        (b"410 Gone\r\n", "gone", 410),
    ],
)
async def test_a_status_that_came_outlives_the_cut_of_its_body(
    engine: Engine, database_url: str, said: bytes, outcome: str, answer: int
) -> None:
    """An attempt that the shutdown cuts while the body drips is recorded as what the status says.

    As an unknown one, what was delivered would be sent again, and a refusal taken for a maybe.
    """

    async def drips(talk: Conversation) -> None:
        await talk.request()
        await talk.say(b"HTTP/1.1 " + said + b"Content-Length: 9\r\n\r\nhalf")
        await talk.gone()

    async with RawReceiver(drips) as receiver, engine_rig(database_url, start=False) as rig:
        with engine.begin() as connection:
            endpoint_id = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            delivery_id = rows.add_delivery(connection, endpoint_id=endpoint_id)
        await rig.engine.start()
        going = asyncio.create_task(rig.engine.deliver(delivery_id))
        await until(
            lambda: any(
                flight.progress.phase is Phase.BODY and flight.gathered.excerpt
                for flight in rig.dispatcher.flights.values()
            ),
            seconds=20,
        )
        rig.engine.abort_flights()
        report = await going
    with engine.connect() as connection:
        (attempt,) = rows.attempts(connection, delivery_id)
    assert (attempt["outcome"], attempt["status_code"]) == (outcome, answer)
    assert bytes(attempt["excerpt"]) == b"half"
    assert ((report.retry_in_seconds or 0) > 90) == (answer == 429)


async def test_a_record_waits_out_a_long_outage(
    engine: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However often the database refuses, the answer is kept until it can be recorded."""
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def answers(talk: Conversation) -> None:
        await talk.request()
        await asyncio.to_thread(read_only, url, "on")
        await talk.say(OK)
        await talk.gone()

    async with RawReceiver(answers) as receiver, engine_rig(database_url, start=False) as rig:
        with engine.begin() as connection:
            endpoint_id = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            delivery_id = rows.add_delivery(connection, endpoint_id=endpoint_id)
        await rig.engine.start()
        await until(lambda: caplog.text.count("attempts wait to be recorded") >= 6, seconds=20)
        await asyncio.to_thread(read_only, url, "off")
        engine.dispose()  # its idle connections were cut as well
        await until(lambda: counts(engine) == {"delivered": 1}, seconds=20)
    with engine.connect() as connection:
        (attempt,) = rows.attempts(connection, delivery_id)
    # An outage is no fault of the row: nothing of it is left out, as of one that is refused.
    assert (attempt["outcome"], bytes(attempt["excerpt"])) == ("delivered", b"ok")


def read_only(url: str, value: str) -> None:
    """Let a database refuse writes from now on, or take them again; cuts all connections to it."""
    name = url.rsplit("/", 1)[1]
    options = "-c default_transaction_read_only=off"
    with psycopg.connect(url, autocommit=True, options=options) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid()",
            [name],
        )


def test_a_silent_worker_cannot_renew_while_its_claims_are_taken(engine: Engine) -> None:
    """Whoever takes the claims back holds the worker's row: a late renewal waits for the end."""
    silent, judge = uuid4(), uuid4()
    with engine.begin() as connection:
        for worker_id in (silent, judge):
            liveness.renew(connection, worker_id=worker_id, name="tests:1")
        rows.add_delivery(
            connection,
            status="sending",
            claim_id=uuid4(),
            worker_id=silent,
            claimed_at=rows.database_now(connection),
            next_attempt_at=None,
            attempts=1,
        )
        liveness.stop(connection, silent)
    with engine.begin() as judging, engine.connect() as late:
        found = liveness.silent_workers(judging, own_id=judge, silence_seconds=10)
        assert found == [silent]
        late.execute(text("SET lock_timeout = '100ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            liveness.renew(late, worker_id=silent, name="tests:1")
