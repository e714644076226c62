from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from sqlalchemy import Engine, text

from signalpost import Producer, Signal
from signalpost.broker import Broker
from signalpost.embedded.valkey import ValkeyServer
from tests import receivers, rows, stack
from tests.engines import KEY, SEALED
from tests.processes import Program, signalpost
from tests.waiting import counts, until

SIGNALS = 200


@asynccontextmanager
async def worker(
    database_url: str, redis_url: str, role: str = "deliver", **environment: str
) -> AsyncIterator[Program]:
    """A real worker process from the command line, ready to take messages."""
    settings = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEYS": KEY,
        "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
        "RETRY_DELAY_SECONDS": "0.3",
        "MAX_RETRIES": "2",
        **environment,
    }
    program = Program(signalpost("worker", "--role", role), env=settings)
    try:
        # In a thread, since the receiver that the worker waits for lives in this loop.
        await asyncio.to_thread(program.wait_for_line, " ready")
        yield program
    finally:
        await asyncio.to_thread(program.end)


def outbox(engine: Engine, url: str, count: int) -> set[str]:
    """Put due deliveries into the outbox, as a committed enqueue leaves them."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection, url=url, secret_ciphertext=SEALED)
        return {str(rows.add_delivery(connection, endpoint_id=endpoint_id)) for _ in range(count)}


def column(engine: Engine, question: str) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(question)).scalars())


def signal(number: int) -> Signal:
    return Signal(
        instrument="AAPL",
        side="buy",
        entry_price=f"10{number}.50",
        stop_loss="99",
        take_profit="2000",
        confidence="0.8",
        reason="a private reason",
        timestamp=datetime(2026, 1, 5, 12, tzinfo=UTC),
    )


def kill(server: ValkeyServer) -> None:
    """Kill -9 of a server, and its data gone."""
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    shutil.rmtree(server.folder)


async def slow_accept(_: receivers.Seen) -> web.Response:
    await asyncio.sleep(0.3)
    return web.Response(status=201)


async def test_a_worker_killed_in_mid_post_loses_nothing(
    engine: Engine, database_url: str, redis_url: str
) -> None:
    """A kill -9 with requests in flight: all arrive; only what was in flight may arrive twice."""
    async with receivers.receiver(slow_accept) as receiver:
        async with worker(database_url, redis_url) as victim:
            ids = outbox(engine, receiver.url, SIGNALS)
            Broker(redis_url).ring()
            await receiver.wait_for(SIGNALS // 2)
            victim.kill()
            sending = "SELECT id FROM signalpost.deliveries WHERE status = 'sending'"
            in_flight = {str(found) for found in column(engine, sending)}
            assert in_flight
        async with worker(database_url, redis_url):
            await until(lambda: counts(engine) == {"delivered": SIGNALS}, seconds=45)
    times = Counter(seen.delivery_id for seen in receiver.seen)
    assert set(times) == ids
    twice = {delivery_id for delivery_id, count in times.items() if count > 1}
    assert twice <= in_flight
    lost = "SELECT delivery_id FROM signalpost.attempts WHERE failure = 'claim_lost'"
    assert twice <= {str(found) for found in column(engine, lost)}


async def test_redis_killed_with_its_data_loses_nothing(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """A kill -9 of Redis, its data gone, while 200 signals are under way: each arrives once."""
    redis = stack.redis_in(tmp_path)
    broker = Broker(redis.url())
    async with receivers.receiver(slow_accept) as receiver, worker(database_url, redis.url()):
        ids = outbox(engine, receiver.url, SIGNALS)
        for found in column(engine, "SELECT id FROM signalpost.deliveries"):
            rows.announce(broker, found)
        await receiver.wait_for(20)
        kill(redis)
        await until(lambda: counts(engine) == {"delivered": SIGNALS}, seconds=30)
    times = Counter(seen.delivery_id for seen in receiver.seen)
    assert set(times) == ids
    assert set(times.values()) == {1}


async def test_from_enqueue_to_the_alert_in_the_operators_hand(
    engine: Engine, database_url: str, redis_url: str
) -> None:
    """One accepted, one after a retry, one rejected, one exhausted; both dead ones are alerted."""
    answers = {"100.50": [201], "101.50": [503, 201], "102.50": [422], "103.50": [500]}

    async def answer(seen: receivers.Seen) -> web.Response:
        codes = answers[str(json.loads(seen.body, parse_float=str)["entry_price"])]
        return web.Response(status=codes.pop(0) if len(codes) > 1 else codes[0])

    async with (
        receivers.receiver(answer) as receiver,
        worker(database_url, redis_url) as deliver,
        worker(database_url, redis_url, "ops", ALERT_WINDOW_SECONDS="0") as ops,
        Producer(database_url, redis_url, producer_id="tests", environ={}) as producer,
    ):
        with engine.begin() as connection:
            rows.add_endpoint(connection, name="desk", url=receiver.url, secret_ciphertext=SEALED)
        found = [await producer.enqueue_async(signal(number)) for number in range(4)]
        assert all(each.announced for each in found)
        await until(lambda: counts(engine) == {"delivered": 2, "dead": 2}, seconds=20)
        receipts = "SELECT receipt FROM signalpost.alerts WHERE kind = 'dead'"
        await until(lambda: column(engine, receipts) == ["log", "log"], seconds=10)
    ids = [str(each.deliveries[0].delivery_id) for each in found]
    assert [line for line in ops.lines if "ALERT" in line and ids[2] in line]
    assert [line for line in ops.lines if "ALERT" in line and ids[3] in line]
    assert sum(f"delivery={ids[1]}" in line for line in deliver.lines) >= 2
    for private in ("a private reason", "101.5", "2000"):
        assert private not in deliver.output + ops.output
    numbers = column(engine, "SELECT attempts FROM signalpost.deliveries ORDER BY created_at")
    assert numbers == [1, 2, 1, 3]


async def test_a_rolling_restart_sends_nothing_twice(
    engine: Engine, database_url: str, redis_url: str
) -> None:
    """A worker told to end under load, a new one beside it, waits for its answers, records them and
    exits well; what it had not begun goes on at once, and each signal arrives once.
    """
    broker = Broker(redis_url)
    async with receivers.receiver(slow_accept) as receiver, AsyncExitStack() as later:
        async with worker(database_url, redis_url) as old:
            await later.enter_async_context(worker(database_url, redis_url))
            ids = outbox(engine, receiver.url, SIGNALS)
            for found in column(engine, "SELECT id FROM signalpost.deliveries LIMIT 80"):
                rows.announce(broker, found)
            broker.ring()
            await receiver.wait_for(20)
        assert old.process.returncode == 0
        await until(lambda: counts(engine) == {"delivered": SIGNALS})
    broker.close()
    assert Counter(seen.delivery_id for seen in receiver.seen) == dict.fromkeys(ids, 1)
    assert column(engine, "SELECT count(*) FROM signalpost.workers WHERE stopped_at IS NULL") == [0]


def test_a_worker_with_wrong_settings_says_so_in_one_line(database_url: str) -> None:
    """What is missing is named on one line, with exit code 1 and no traceback."""
    environment = {"DATABASE_URL": database_url, "REDIS_URL": "redis://127.0.0.1:1/0"}
    with Program(signalpost("worker", "--role", "deliver"), env=environment) as program:
        code = program.wait()
    assert code == 1
    assert [line for line in program.lines if line.startswith("signalpost: SECRET_KEYS")]
    assert "Traceback" not in program.output
