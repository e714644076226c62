"""The order in which rows are locked: nobody waits in a circle, and claims hardly wait at all.

Played move by move, so that each fails for certain where somebody locks in another order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost.core.pausing import Pause
from signalpost.database import is_lock_timeout
from signalpost.outbox import Outbox
from signalpost.repository import (
    breakers,
    claims,
    keys,
    naming,
    pauses,
    placing,
    records,
    rotation,
    walking,
)
from signalpost.repository.cancelling import cancel
from signalpost.repository.claimed import Claim
from signalpost.repository.enqueueing import Way
from tests import receivers, rows
from tests.engines import SEALED, engine_rig
from tests.integration.test_order import put
from tests.integration.test_records import ACCEPTED, news
from tests.integration.test_replay import wait_until_blocked
from tests.waiting import until

ENTRY = Way(supersede_key="entry")
WORKER = UUID(int=7)


def _under_way_and_behind(connection: Connection) -> tuple[Claim, UUID]:
    """A delivery under way, and its successor, which waits for its end and has the lower id."""
    for _ in range(64):
        [older] = put(connection, way=ENTRY)
        [claim] = naming.claim_by_id(connection, [older], worker_id=WORKER).claims
        [newer] = put(connection, way=ENTRY)
        if newer < older:
            return claim, newer
        records.record(connection, [news(claim, ACCEPTED)])
        cancel(connection, [newer], actor="tests")
    raise AssertionError("64 ids in a row that were higher than the one before")


def test_a_cancellation_does_not_meet_the_record_of_what_it_waits_for(engine: Engine) -> None:
    """It locks what is under way first, as the record does that lets the successor go."""
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk")
        claim, newer = _under_way_and_behind(connection)
    lock = text("SELECT FROM signalpost.deliveries WHERE id = :id FOR UPDATE")

    def withdraw() -> None:
        with engine.begin() as connection:
            cancel(connection, [newer, claim.delivery_id], actor="tests")

    canceller = threading.Thread(target=withdraw)
    with engine.begin() as connection:
        connection.execute(lock, {"id": claim.delivery_id})
        canceller.start()
        wait_until_blocked(engine)
        records.record(connection, [news(claim, ACCEPTED)])
    canceller.join(10)

    with engine.begin() as connection:
        stand = [rows.delivery(connection, one)["status"] for one in (claim.delivery_id, newer)]
    assert stand == ["delivered", "cancelled"]


def _heal(connection: Connection) -> None:
    breakers.tell_long_open(connection)


def _resume(connection: Connection) -> None:
    pauses.resume(connection, Pause("all"), named="everything", actor="tests", why="")


def _forget(connection: Connection) -> None:
    rotation.forget_previous_secrets(connection)


@pytest.mark.parametrize("change", [_heal, _resume, _forget], ids=lambda it: it.__name__)
def test_whoever_changes_several_endpoints_locks_them_by_id(
    engine: Engine, change: Callable[[Connection], None]
) -> None:
    """Waiting for the first, it holds none of the others, wherever their rows lie."""
    with engine.begin() as connection:
        pauses.pause(connection, Pause("all"), named="everything", actor="tests", why="")
        first, second = (rows.add_endpoint(connection) for _ in range(2))
    concerned = text(
        "UPDATE signalpost.endpoints SET released_at = now() + interval '1 day',"
        " previous_secret_ciphertext = 'x', previous_secret_until = now() WHERE id = :id"
    )
    for one in (second, first):
        # Each lands behind the one before, so that a walk meets the second first.
        with engine.begin() as connection:
            connection.execute(concerned, {"id": one})
    lock = text("SELECT FROM signalpost.endpoints WHERE id = :id FOR NO KEY UPDATE NOWAIT")

    def work() -> None:
        with engine.begin() as connection:
            change(connection)

    other = threading.Thread(target=work)
    with engine.begin() as connection:
        connection.execute(lock, {"id": first})
        other.start()
        wait_until_blocked(engine)
        connection.execute(lock, {"id": second})
    other.join(10)


def _due(connection: Connection) -> None:
    claims.claim_due(connection, worker_id=WORKER, limit=5)


def _named(connection: Connection) -> None:
    delivery_id = rows.add_delivery(connection)
    assert naming.claim_by_id(connection, [delivery_id], worker_id=WORKER).claims


@pytest.mark.parametrize("claim", [_due, _named], ids=lambda it: it.__name__)
def test_a_claim_waits_for_nobody_longer_than_a_moment(
    engine: Engine, claim: Callable[[Connection], None]
) -> None:
    """Shorter than the server takes to look for deadlocks, so that it is never ended as one."""
    question = text(
        "SELECT (SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'),"
        " (SELECT setting::int FROM pg_settings WHERE name = 'deadlock_timeout')"
    )
    with engine.begin() as connection:
        claim(connection)
        mine, server = connection.execute(question).one()
    assert 0 < mine < server


async def test_what_writes_runs_at_read_committed_whatever_the_servers_default(
    engine: Engine, db: AsyncEngine
) -> None:
    """The walk for what is stuck too: at a stricter one it would fail where it is to pass over."""
    stricter = "ALTER DATABASE %I SET default_transaction_isolation TO ''serializable''"
    with engine.begin() as connection:
        connection.execute(
            text(f"DO $$ BEGIN EXECUTE format('{stricter}', current_database()); END $$")
        )
    question, seen = text("SHOW transaction_isolation"), list[str | None]()
    event.listen(db.sync_engine, "commit", lambda c: seen.append(c.scalar(question)))
    outbox = Outbox(db, worker_id=uuid4(), worker_name="tests:1")

    await outbox.find_stuck(walking.START)
    await outbox.expire_pending(limit=5)

    assert seen == ["read committed"] * 2


async def test_a_claim_that_had_to_wait_looks_again_at_once(
    engine: Engine, db: AsyncEngine
) -> None:
    """The rescue would find it after 2 s only; what still fails is told."""
    with engine.begin() as connection:
        delivery_id = rows.add_delivery(connection)
    outbox = Outbox(db, worker_id=uuid4(), worker_name="tests:1")
    # The first half of a claim does not need this table, hence has set its limit by then.
    table = text("LOCK TABLE signalpost.signals")

    with engine.connect() as holder:
        holder.execute(table)
        with pytest.raises(DBAPIError) as refusal:
            await outbox.claim_due(limit=5, overdue_seconds=0)
        assert is_lock_timeout(refusal.value)
        event.listen(db.sync_engine, "handle_error", lambda _: holder.rollback())
        claimed = await outbox.claim_due(limit=5, overdue_seconds=0)

    assert [one.delivery_id for one in claimed.claims] == [delivery_id]
    assert not outbox.claiming


def test_the_walk_for_what_is_stuck_waits_for_nobody(engine: Engine) -> None:
    """It takes no key's lock, so it would wait in a circle with whoever holds two such rows."""
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk", ordered=True)
        [held], [free] = (put(connection, key) for key in ("AAPL", "MSFT"))
        connection.execute(text("UPDATE signalpost.deliveries SET held = 'behind'"))
    lock = text("SELECT FROM signalpost.deliveries WHERE id = :id FOR UPDATE")

    with engine.begin() as holder, engine.begin() as connection:
        holder.execute(lock, {"id": held})
        connection.execute(text("SET LOCAL lock_timeout = '2s'"))
        assert walking.find_stuck(connection, after=walking.START, limit=9).stuck == 1
        assert rows.delivery(connection, free)["held"] == "new"
    with engine.begin() as connection:
        assert walking.find_stuck(connection, after=walking.START, limit=9).stuck == 1
        assert rows.delivery(connection, held)["held"] == "new"


async def test_an_engine_looks_ever_more_seldom_for_a_key_that_somebody_holds(
    engine: Engine, database_url: str
) -> None:
    """A producer's open transaction may last: it costs four looks a second, not a hundred."""
    async with receivers.receiver() as receiver:
        with engine.begin() as connection:
            rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED, ordered=True)
            [head] = put(connection)
            placing.place_new(connection, limit=9)
            [new] = put(connection)
        with engine.connect() as producer:
            keys.lock_keys_of(producer, [head])
            async with engine_rig(database_url) as rig:
                await rig.engine.drain()
                await until(lambda: rig.outbox.claims_begun >= 3)
                begun, start = rig.outbox.claims_begun, time.monotonic()
                await until(lambda: rig.outbox.claims_begun >= begun + 8)
                elapsed = time.monotonic() - start
                producer.rollback()
                await rig.engine.drain()
                await until(lambda: len(receiver.seen) == 2)
    assert elapsed > 0.6
    assert [UUID(seen.delivery_id) for seen in receiver.seen] == [head, new]
