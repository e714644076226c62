from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine, text

from signalpost import (
    Enqueued,
    EnqueueError,
    EnqueueTimeout,
    IdempotencyConflict,
    NoEndpoint,
    Producer,
    Signal,
    SignalError,
)
from signalpost.errors import ConfigurationError, SettingError
from signalpost.settings import driver_url
from tests.producing import (
    PRICE,
    REASON,
    SECRET,
    fields,
    make_signal,
    messages,
    outbox,
    producer_on,
    stored_ids,
)


@pytest.fixture(scope="module")
def outbox_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """One database with two endpoints for all tests here; every signal has an id of its own."""
    with outbox(postgres_server, migrated_template, "desk", "fund") as url:
        yield url


@pytest.fixture(scope="module")
def looking(outbox_url: str) -> Iterator[Engine]:
    """An engine of the tests' own on the same database."""
    engine = create_engine(driver_url(outbox_url))
    yield engine
    engine.dispose()


@pytest.fixture
def producer(outbox_url: str, redis_url: str) -> Iterator[Producer]:
    """A producer with both servers."""
    with producer_on(outbox_url, redis_url) as made:
        yield made


def test_a_signal_is_stored_and_announced(
    producer: Producer, outbox_url: str, redis_url: str
) -> None:
    """Enqueueing stores the signal with a delivery an endpoint, and sends a message for each."""
    signal = make_signal()
    enqueued = producer.enqueue(signal)
    assert (enqueued.signal_id, enqueued.duplicate, enqueued.announced) == (signal.id, False, True)
    assert [(d.endpoint, d.status) for d in enqueued.deliveries] == [
        ("desk", "pending"),
        ("fund", "pending"),
    ]
    assert str(signal.id) in stored_ids(outbox_url)
    sent = messages(redis_url, "deliver")
    assert [one["args"] for one in sent] == [[str(d.delivery_id)] for d in enqueued.deliveries]
    assert sent[0]["task"] == "signalpost.deliver"
    told = (
        f"(delivery {enqueued.deliveries[0].delivery_id}, signal {signal.id}, AAPL, endpoint desk)"
    )
    assert sent[0]["shown"] == told


def test_redis_holds_ids_and_labels_only(
    producer: Producer, outbox_url: str, redis_url: str
) -> None:
    """Whoever reads all of Redis finds no price, reason, payload or secret of any signal."""
    producer.enqueue(make_signal(payload={"note": "private words"}))
    producer.enqueue_many([make_signal(payload={"note": "private words"}) for _ in range(10)])
    everything = b""
    with Redis.from_url(redis_url) as client:
        keys = set(client.scan_iter())
        assert keys == {b"deliver", b"drain"}
        for key in keys:
            everything += b"".join(client.lrange(key, 0, -1))
    for message in messages(redis_url, "deliver") + messages(redis_url, "drain"):
        everything += repr(message).encode()
    private = (PRICE, "184.00", "0.82", REASON, "private words", SECRET, "whsec", outbox_url)
    assert not [word for word in private if word.encode() in everything]


def test_calling_again_gives_back_the_first(producer: Producer) -> None:
    """The same signal again is a duplicate with the first deliveries, from another producer too."""
    signal = make_signal()
    first = producer.enqueue(signal)
    again = producer.enqueue(signal, endpoints=["desk"], ttl=1)
    assert (again.duplicate, again.deliveries) == (True, first.deliveries)


def test_a_duplicate_shows_the_status_of_now(producer: Producer, looking: Engine) -> None:
    """What became of the deliveries meanwhile is what a duplicate tells, and nothing is resent."""
    signal = make_signal()
    producer.enqueue(signal)
    with looking.begin() as connection:
        connection.execute(
            text("UPDATE signalpost.deliveries SET status = 'delivered' WHERE signal_id = :id"),
            {"id": signal.id},
        )
    again = producer.enqueue(signal)
    assert {d.status for d in again.deliveries} == {"delivered"}
    assert again.announced


def test_a_key_recognises_a_signal_without_id(producer: Producer) -> None:
    """Under one key the same content is one signal, and other content is a conflict."""
    unnamed = {**fields(), "id": None}
    first = producer.enqueue(unnamed, key="trade-7")
    assert producer.enqueue(unnamed, key="trade-7").signal_id == first.signal_id
    with pytest.raises(IdempotencyConflict, match="trade-7") as caught:
        producer.enqueue({**unnamed, "entry_price": "190"}, key="trade-7")
    assert "190" not in str(caught.value)
    assert producer.enqueue(unnamed, key="trade-8").signal_id != first.signal_id


def test_a_signal_without_id_and_key_is_recognised_by_its_content(producer: Producer) -> None:
    """The same content enqueued twice is one signal, also by a producer made anew."""
    unnamed = {**fields(), "id": None, "reason": "content alone"}
    assert not producer.enqueue(unnamed).duplicate
    assert producer.enqueue(unnamed).duplicate


@pytest.mark.parametrize("endpoints", ["desk", ["desk"], ("desk", "desk")])
def test_endpoints_can_be_named(producer: Producer, endpoints: str | list[str]) -> None:
    """Named endpoints alone get the signal; one name alone is taken as such."""
    enqueued = producer.enqueue(make_signal(), endpoints=endpoints)
    assert [d.endpoint for d in enqueued.deliveries] == ["desk"]


def test_an_unknown_endpoint_is_named_and_nothing_written(
    producer: Producer, outbox_url: str, redis_url: str
) -> None:
    """A name that no endpoint has is an error that tells it; nobody gets the signal."""
    signal = make_signal()
    with pytest.raises(NoEndpoint, match="'nobody'"):
        producer.enqueue(signal, endpoints=["desk", "nobody"])
    assert str(signal.id) not in stored_ids(outbox_url)
    assert messages(redis_url, "deliver") == []


@pytest.mark.parametrize(
    "ttl",
    [0, -1, float("nan"), float("inf"), True, "30", Decimal("NaN"), Decimal("sNaN"), 10**400],
)
def test_a_ttl_must_be_seconds_above_zero(producer: Producer, ttl: Any) -> None:
    """A ttl that is no length of time is an error, not a signal that lives for ever."""
    with pytest.raises(SignalError, match="ttl"):
        producer.enqueue(make_signal(), ttl=ttl)


@pytest.mark.parametrize("name", ["", "a\0b", "half \ud800", 7, None])
def test_what_can_be_no_endpoint_s_name_is_told_as_unknown(producer: Producer, name: Any) -> None:
    """A name that PostgreSQL could not even be asked for is an endpoint that is not there."""
    with pytest.raises(NoEndpoint, match="there is no endpoint named"):
        producer.enqueue(make_signal(), endpoints=["desk", name])


@pytest.mark.parametrize("given", [None, "AAPL", 7, [("side", "buy")]])
def test_what_is_no_signal_is_told_as_such(producer: Producer, given: Any) -> None:
    """Anything but a Signal or a mapping is a SignalError, among many with its position."""
    with pytest.raises(SignalError, match="must be a Signal, or a mapping"):
        producer.enqueue(given)
    with pytest.raises(SignalError, match=r"\[1\] signal: must be"):
        producer.enqueue_many([make_signal(), given])


@pytest.mark.parametrize(("ttl", "seconds"), [(None, None), (30.0, 30)])
def test_a_ttl_sets_the_life(
    producer: Producer, looking: Engine, ttl: float | None, seconds: float | None
) -> None:
    """A given ttl ends the life so many seconds from now, None never."""
    enqueued = producer.enqueue(make_signal(), ttl=ttl, endpoints=["desk"])
    statement = text("""
        SELECT EXTRACT(EPOCH FROM expires_at - created_at) FROM signalpost.deliveries WHERE id = :id
        """)
    with looking.connect() as connection:
        life = connection.scalar(statement, {"id": enqueued.deliveries[0].delivery_id})
    assert (life is None) == (seconds is None)
    assert life is None or abs(float(life) - float(seconds or 0)) < 1


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_must_be_seconds_above_zero(producer: Producer, timeout: float) -> None:
    """A call without any time is a mistake of the caller's."""
    with pytest.raises(ValueError, match="timeout"):
        producer.enqueue(make_signal(), timeout=timeout)


def test_a_bad_signal_never_reaches_the_database(producer: Producer, outbox_url: str) -> None:
    """What breaks a rule is told by field, and too large a body by its size."""
    before = stored_ids(outbox_url)
    with pytest.raises(SignalError, match="side"):
        producer.enqueue({**fields(), "side": "long"})
    with pytest.raises(SignalError, match="at most 65536 are allowed"):
        producer.enqueue(make_signal(payload={"note": "x" * 70_000}))
    assert stored_ids(outbox_url) == before


def test_one_signal_from_many_threads_is_stored_once(producer: Producer) -> None:
    """Of twenty threads with the same signal exactly one stores it, and none fails."""
    signal = make_signal()
    barrier = threading.Barrier(20)

    def enqueue() -> Enqueued:
        barrier.wait(10)
        return producer.enqueue(signal, timeout=10)

    with ThreadPoolExecutor(20) as pool:
        results = [future.result() for future in [pool.submit(enqueue) for _ in range(20)]]
    assert sorted(one.duplicate for one in results) == [False] + [True] * 19
    assert len({one.deliveries[0].delivery_id for one in results}) == 1


async def test_awaiting_callers_get_the_same(producer: Producer, redis_url: str) -> None:
    """Twenty awaited calls with the same signal store it once, and are announced alike."""
    signal = make_signal()
    calls = (producer.enqueue_async(signal, timeout=10) for _ in range(20))
    results = await asyncio.gather(*calls)
    assert sorted(one.duplicate for one in results) == [False] + [True] * 19
    assert all(one.announced for one in results)
    assert messages(redis_url, "deliver")


async def test_an_awaiting_caller_s_loop_goes_on(producer: Producer, looking: Engine) -> None:
    """While a call waits for the database, the caller's event loop is free."""
    signal = make_signal()
    await producer.enqueue_async(make_signal())
    with holding(looking, signal.id):
        call = asyncio.ensure_future(producer.enqueue_async(signal, timeout=0.6))
        longest, last = 0.0, time.monotonic()
        while not call.done():
            await asyncio.sleep(0.005)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        with pytest.raises(EnqueueTimeout):
            await call
    assert longest < 0.3


async def test_a_cancelled_call_writes_nothing(
    producer: Producer, looking: Engine, outbox_url: str
) -> None:
    """A call that its caller cancels before the commit leaves no signal behind."""
    signal = make_signal()
    await producer.enqueue_async(make_signal())
    with holding(looking, signal.id), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await producer.enqueue_async(signal)
    await producer.enqueue_async(make_signal())
    assert str(signal.id) not in stored_ids(outbox_url)


@contextmanager
def holding(engine: Engine, signal_id: UUID | None) -> Iterator[None]:
    """Another transaction that has stored the same signal and does not end."""
    statement = text("""
        INSERT INTO signalpost.signals
            (id, producer_id, idempotency_key, body, instrument, side, action)
        VALUES (:id, 'tests', CAST(:id AS text), '', 'AAPL', 'buy', 'open')
        """)
    with engine.connect() as connection:
        connection.execute(statement, {"id": signal_id})
        yield


def test_many_are_one_transaction_and_one_ring(
    producer: Producer, outbox_url: str, redis_url: str
) -> None:
    """A long list is stored whole, in order, and rings the doorbell once."""
    signals = [make_signal() for _ in range(700)]
    results = producer.enqueue_many(signals)
    assert [one.signal_id for one in results] == [signal.id for signal in signals]
    assert all(one.announced and not one.duplicate for one in results)
    assert {str(signal.id) for signal in signals} <= stored_ids(outbox_url)
    assert messages(redis_url, "deliver") == []
    assert [one["task"] for one in messages(redis_url, "drain")] == ["signalpost.drain"]


def test_a_conflict_among_many_writes_none(producer: Producer, outbox_url: str) -> None:
    """If one of a list conflicts with what stands, no signal of the list is written."""
    known = make_signal()
    producer.enqueue(known)
    fresh = make_signal()
    with pytest.raises(IdempotencyConflict):
        producer.enqueue_many([fresh, make_signal(id=known.id, reason="another")])
    assert str(fresh.id) not in stored_ids(outbox_url)


def test_bad_ones_among_many_are_told_by_position(producer: Producer, outbox_url: str) -> None:
    """Every bad signal of a list is told with its place, and none of the list is written."""
    good = make_signal()
    bad: list[Signal | dict[str, Any]]
    bad = [good, {**fields(), "side": "long"}, {**fields(), "confidence": 2}]
    with pytest.raises(SignalError) as caught:
        producer.enqueue_many(bad)
    assert [problem[:3] for problem in caught.value.problems] == ["[1]", "[2]"]
    assert str(good.id) not in stored_ids(outbox_url)


def test_an_empty_list_is_nothing_to_do(producer: Producer) -> None:
    """No signals, no transaction, no result."""
    assert producer.enqueue_many([]) == []


def test_no_endpoint_at_all_is_told(
    postgres_server: str, migrated_template: str, redis_url: str
) -> None:
    """Before an operator added an endpoint, nothing is taken, and the remedy is named."""
    with (
        outbox(postgres_server, migrated_template) as url,
        producer_on(url, redis_url) as producer,
    ):
        with pytest.raises(NoEndpoint, match="signalpost endpoint add"):
            producer.enqueue(make_signal())
        with pytest.raises(NoEndpoint):
            producer.enqueue_many([make_signal()])
        assert stored_ids(url) == set()


def test_without_a_redis_all_is_stored(outbox_url: str) -> None:
    """No Redis given: the signal is stored and said to be not announced."""
    with producer_on(outbox_url) as producer:
        enqueued = producer.enqueue(make_signal())
    assert (enqueued.duplicate, enqueued.announced) == (False, False)


def test_a_server_s_refusal_is_told_without_the_row(producer: Producer, looking: Engine) -> None:
    """What PostgreSQL says of a row it refuses may quote the row, so only its code is told."""
    with looking.begin() as connection:
        connection.execute(text("ALTER TABLE signalpost.signals ADD CHECK (instrument <> 'MSFT')"))
    with pytest.raises(EnqueueError, match="SQLSTATE 23514") as caught:
        producer.enqueue(make_signal(instrument="MSFT"))
    assert REASON not in str(caught.value)
    assert caught.value.__suppress_context__
    assert not producer.enqueue(make_signal()).duplicate


def test_a_producer_needs_a_name(outbox_url: str) -> None:
    """A producer without an id, or with a bad one, is told before any signal."""
    with pytest.raises(ConfigurationError, match="PRODUCER_ID"):
        Producer(outbox_url, environ={})
    with pytest.raises(SettingError, match="PRODUCER_ID"):
        Producer(outbox_url, producer_id="my strategy", environ={})


def test_a_producer_reads_the_environment_and_no_file(
    outbox_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables count, arguments win over them, and a `.env` file is not looked at."""
    (tmp_path / ".env").write_text(f"DATABASE_URL={outbox_url}\nPRODUCER_ID=from-the-file\n")
    monkeypatch.chdir(tmp_path)
    environ = {"DATABASE_URL": outbox_url, "PRODUCER_ID": "from-the-environment"}
    assert Producer(environ=environ).producer_id == "from-the-environment"
    assert Producer(environ=environ, producer_id="mine").producer_id == "mine"
    with pytest.raises(SettingError, match="no database"):
        Producer(environ={"HOME": str(tmp_path)})


def test_a_closed_producer_says_so(outbox_url: str) -> None:
    """After its end a producer takes nothing, and closing it twice is fine."""
    with producer_on(outbox_url) as producer:
        producer.enqueue(make_signal())
    producer.close()
    with pytest.raises(EnqueueError, match="closed"):
        producer.enqueue(make_signal())


async def test_a_producer_is_closed_by_async_with(outbox_url: str) -> None:
    """`async with` ends the producer and its threads."""
    before = set(threading.enumerate())
    async with Producer(outbox_url, producer_id="tests", environ=os.environ) as producer:
        await producer.enqueue_async(make_signal())
        assert set(threading.enumerate()) - before
    left = set(threading.enumerate()) - before
    assert not [t for t in left if t.name.startswith("signalpost-")]
