from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from signalpost.errors import IdempotencyConflict, NoEndpoint
from signalpost.repository.enqueueing import Life, Stored, enqueue
from signalpost.repository.recognising import NewSignal, pending_among
from tests.rows import add_endpoint
from tests.waiting import counts

NOW = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)
LIFE = Life(default_ttl_seconds=600)


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    """A connection whose transaction is rolled back, with two endpoints."""
    with engine.connect() as connection:
        add_endpoint(connection, name="desk")
        add_endpoint(connection, name="fund", ttl_seconds=60)
        yield connection


def new(**values: object) -> NewSignal:
    signal_id = uuid4()
    signal = NewSignal(
        id=signal_id,
        key=str(signal_id),
        body=b'{"id":"%s"}' % str(signal_id).encode(),
        instrument="AAPL",
        side="buy",
        action="open",
        expires_at=None,
    )
    return replace(signal, **values)  # type: ignore[arg-type]


def one(conn: Connection, signal: NewSignal, **options: object) -> Stored:
    [stored] = enqueue(conn, "tests", [signal], **{"life": LIFE, **options})  # type: ignore[arg-type]
    return stored


def signals_in(conn: Connection) -> int:
    return int(conn.scalar(text("SELECT count(*) FROM signalpost.signals")) or 0)


def test_a_signal_gets_a_delivery_to_every_endpoint(conn: Connection) -> None:
    """Without names each living endpoint gets one pending delivery, listed by name."""
    conn.execute(text("UPDATE signalpost.endpoints SET removed_at = now() WHERE name = 'fund'"))
    add_endpoint(conn, name="bank")
    signal = new()
    stored = one(conn, signal)
    assert (stored.signal_id, stored.duplicate) == (signal.id, False)
    assert [(d.endpoint, d.status) for d in stored.deliveries] == [
        ("bank", "pending"),
        ("desk", "pending"),
    ]
    row = conn.execute(text("SELECT * FROM signalpost.signals")).mappings().one()
    kept = (row["producer_id"], row["idempotency_key"], row["body"], row["instrument"])
    assert kept == ("tests", signal.key, signal.body, "AAPL")


def test_named_endpoints_alone_get_it(conn: Connection) -> None:
    """With names only those get a delivery, each once however often it is named."""
    stored = one(conn, new(), endpoints=["desk", "desk"])
    assert [d.endpoint for d in stored.deliveries] == ["desk"]


@pytest.mark.parametrize(
    ("signal_life", "life", "expected"),
    [
        (NOW + timedelta(seconds=5), Life(600, ttl_seconds=30), {"desk": 5, "fund": 5}),
        (NOW + timedelta(seconds=5), Life(600, never=True), {"desk": 5, "fund": 5}),
        (None, Life(600, ttl_seconds=30), {"desk": 30, "fund": 30}),
        (None, Life(600), {"desk": 600, "fund": 60}),
        (None, Life(600, never=True), {"desk": None, "fund": None}),
    ],
)
def test_a_delivery_s_life(
    conn: Connection,
    signal_life: datetime | None,
    life: Life,
    expected: dict[str, float | None],
) -> None:
    """A life ends by the signal, else by ttl, else by the endpoint, else by the setting."""
    one(conn, new(expires_at=signal_life), life=life, now=NOW)
    rows = conn.execute(
        text("""
        SELECT name, expires_at FROM signalpost.deliveries
        JOIN signalpost.endpoints ON endpoints.id = endpoint_id
        """)
    )
    lives = {name: ends and (ends - NOW).total_seconds() for name, ends in rows}
    assert lives == expected


def test_a_life_counts_from_database_time(conn: Connection) -> None:
    """Without another time given, a life counts from the database's own now."""
    one(conn, new(), endpoints=["fund"])
    left = conn.scalar(
        text("SELECT EXTRACT(EPOCH FROM expires_at - clock_timestamp()) FROM signalpost.deliveries")
    )
    assert left is not None
    assert 55 < left <= 60


def test_the_same_again_gives_back_what_stands(conn: Connection) -> None:
    """A known signal is a duplicate: the first deliveries, with the statuses they have now."""
    signal = new()
    first = one(conn, signal)
    conn.execute(
        text("""
        UPDATE signalpost.deliveries SET status = 'delivered'
        FROM signalpost.endpoints e WHERE e.id = endpoint_id AND e.name = 'desk'
        """)
    )
    again = one(conn, signal, life=Life(1, ttl_seconds=5))
    assert again.duplicate
    assert [d.delivery_id for d in again.deliveries] == [d.delivery_id for d in first.deliveries]
    assert [d.status for d in again.deliveries] == ["delivered", "pending"]
    assert signals_in(conn) == 1


def test_a_duplicate_needs_no_endpoint(conn: Connection) -> None:
    """What was enqueued is recognised also after its endpoints have gone, or by other names."""
    signal = new()
    one(conn, signal, endpoints=["desk"])
    again = one(conn, signal, endpoints=["fund"])
    assert [d.endpoint for d in again.deliveries] == ["desk"]
    conn.execute(text("UPDATE signalpost.endpoints SET removed_at = now()"))
    assert one(conn, signal).duplicate


@pytest.mark.parametrize("change", ["body", "key", "producer"])
def test_a_conflict_is_told_and_harms_nothing(conn: Connection, change: str) -> None:
    """The same key with another body, or the id under another key or producer, is a conflict.

    The transaction stays usable, and what stood stands.
    """
    signal = new()
    one(conn, signal)
    producer_id = "others" if change == "producer" else "tests"
    other = {
        "body": replace(signal, body=b"{}"),
        "key": replace(signal, key="another"),
        "producer": signal,
    }[change]
    with pytest.raises(IdempotencyConflict):
        enqueue(conn, producer_id, [other], life=LIFE)
    assert one(conn, signal).duplicate
    assert signals_in(conn) == 1


def test_a_key_is_the_producer_s_own(conn: Connection) -> None:
    """Two producers may use one key, for they are told apart."""
    one(conn, new(key="trade-1"))
    [stored] = enqueue(conn, "others", [new(key="trade-1")], life=LIFE)
    assert not stored.duplicate


@pytest.mark.parametrize("endpoints", [["desk", "nobody"], ["nobody"], []])
def test_a_missing_endpoint_writes_nothing(conn: Connection, endpoints: list[str]) -> None:
    """A name that no endpoint has is named, and the others get nothing either."""
    with pytest.raises(NoEndpoint, match="nobody" if endpoints else "list of endpoints is empty"):
        one(conn, new(), endpoints=endpoints)
    assert signals_in(conn) == 0


def test_no_endpoint_at_all_writes_nothing(engine: Engine) -> None:
    """Before the first endpoint, and after the last, nothing is taken."""
    with engine.connect() as connection:
        with pytest.raises(NoEndpoint, match="signalpost endpoint add"):
            one(connection, new())
        assert signals_in(connection) == 0


def test_many_come_back_in_their_order(conn: Connection) -> None:
    """More signals than one statement takes are all stored, results in the order of the list."""
    signals = [new(body=b"x" * 10) for _ in range(1201)]
    stored = enqueue(conn, "tests", signals, life=LIFE)
    assert [one.signal_id for one in stored] == [signal.id for signal in signals]
    assert all(len(one.deliveries) == 2 and not one.duplicate for one in stored)
    assert signals_in(conn) == 1201


def test_large_bodies_are_sent_in_parts(conn: Connection) -> None:
    """A few megabytes of bodies are stored whole, whatever goes into one statement."""
    signals = [new(body=bytes([number]) * 2_000_000) for number in range(5)]
    enqueue(conn, "tests", signals, life=LIFE, endpoints=["desk"])
    sizes = text("SELECT sum(length(body)) FROM signalpost.signals")
    assert conn.scalar(sizes) == 10_000_000


def test_one_that_comes_twice_in_a_list_is_stored_once(conn: Connection) -> None:
    """The second in the list is a duplicate of the first; with another body it is a conflict."""
    signal = new()
    first, other, second = enqueue(conn, "tests", [signal, new(), signal], life=LIFE)
    assert [first.duplicate, other.duplicate, second.duplicate] == [False, False, True]
    assert first.deliveries == second.deliveries
    with pytest.raises(IdempotencyConflict, match="comes twice"):
        enqueue(conn, "tests", [new(key="k", body=b"1"), new(key="k", body=b"2")], life=LIFE)


def test_old_and_new_mix_in_a_list(conn: Connection) -> None:
    """Of a list that was half enqueued before, exactly the known half is marked."""
    known = [new() for _ in range(3)]
    enqueue(conn, "tests", known, life=LIFE)
    mixed = [known[0], new(), known[1], new(), known[2]]
    stored = enqueue(conn, "tests", mixed, life=LIFE)
    assert [one.duplicate for one in stored] == [True, False, True, False, True]
    assert signals_in(conn) == 5


def test_a_transaction_that_holds_the_same_signal_is_waited_for_in_bounds(engine: Engine) -> None:
    """While another transaction holds the key, the wait ends at the lock timeout, in the server."""
    signal = new()
    with engine.begin() as holder:
        add_endpoint(holder, name="desk")
    with engine.connect() as holder, engine.connect() as waiter:
        one(holder, signal)
        with pytest.raises(OperationalError) as caught:
            one(waiter, signal, lock_timeout_seconds=0.1)
        assert getattr(caught.value.orig, "sqlstate", None) == "55P03"
        waiter.rollback()
        holder.rollback()
        assert not one(waiter, signal).duplicate


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_who_waited_sees_how_the_other_ended(engine: Engine, ends: str) -> None:
    """After the other's commit it is a duplicate, after its rollback a signal of our own."""
    signal = new()
    with engine.begin() as holder:
        add_endpoint(holder, name="desk")

    def wait() -> Stored:
        with engine.begin() as waiter:
            return one(waiter, signal, lock_timeout_seconds=10)

    with engine.connect() as holder, ThreadPoolExecutor(1) as pool:
        one(holder, signal)
        waiting = pool.submit(wait)
        blocked = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not holder.scalar(blocked):
            assert not waiting.done()
        getattr(holder, ends)()
        assert waiting.result(10).duplicate == (ends == "commit")
    assert counts(engine) == {"pending": 1}


def test_opposite_orders_do_not_deadlock(engine: Engine) -> None:
    """Two that enqueue the same many signals in opposite orders both end, once each stored."""
    with engine.begin() as connection:
        add_endpoint(connection, name="desk")
    signals = [new() for _ in range(600)]
    barrier = threading.Barrier(2)

    def store(order: list[NewSignal]) -> int:
        with engine.begin() as connection:
            barrier.wait(10)
            stored = enqueue(connection, "tests", order, life=LIFE, lock_timeout_seconds=10)
            return sum(not one.duplicate for one in stored)

    with ThreadPoolExecutor(2) as pool:
        written = list(pool.map(store, (signals, signals[::-1])))
    assert sum(written) == 600
    assert counts(engine) == {"pending": 600}


def test_a_caller_s_lock_timeout_is_left_alone(conn: Connection) -> None:
    """In a transaction of somebody else's the lock timeout stays what it was."""
    conn.execute(text("SET LOCAL lock_timeout = '1234ms'"))
    one(conn, new())
    assert conn.scalar(text("SHOW lock_timeout")) == "1234ms"


def test_pending_deliveries_are_told_from_the_others(conn: Connection) -> None:
    """Of given ids those count that are there and still to be sent."""
    waiting, gone = (d.delivery_id for d in one(conn, new()).deliveries)
    statement = text("UPDATE signalpost.deliveries SET status = 'cancelled' WHERE id = :id")
    conn.execute(statement, {"id": gone})
    unknown: UUID = uuid4()
    assert pending_among(conn, [waiting, gone, unknown]) == {waiting}


def test_our_own_commit_is_kept_by_a_server_that_would_forget_it(conn: Connection) -> None:
    """Where synchronous_commit is off our transaction turns it on; a caller's own stays so."""
    conn.execute(text("SET LOCAL synchronous_commit = off"))
    one(conn, new())
    assert conn.scalar(text("SHOW synchronous_commit")) == "off"
    one(conn, new(), lock_timeout_seconds=1.0)
    assert conn.scalar(text("SHOW synchronous_commit")) == "on"
    conn.execute(text("SET LOCAL synchronous_commit = remote_apply"))
    one(conn, new(), lock_timeout_seconds=1.0)
    assert conn.scalar(text("SHOW synchronous_commit")) == "remote_apply"
