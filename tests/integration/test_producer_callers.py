"""Enqueueing in a transaction of the caller's: announced after its commit, or gone with it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from signalpost import DatabaseUnavailable, Enqueued, IdempotencyConflict, NoEndpoint, Producer
from signalpost.database import migrate
from signalpost.errors import EnqueueError, WrongDatabase
from signalpost.models import AuditRow, SignalRow
from signalpost.settings import driver_url
from tests import stack
from tests.databases import cloned, with_database
from tests.processes import wait_for
from tests.producing import (
    REASON,
    add_endpoints,
    make_signal,
    messages,
    outbox,
    producer_on,
    stored_ids,
)


@pytest.fixture(scope="module")
def outbox_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """A database with an endpoint, shared by these tests; every signal has an id of its own."""
    with outbox(postgres_server, migrated_template, "desk") as url:
        yield url


@pytest.fixture(scope="module")
def theirs(outbox_url: str) -> Iterator[Engine]:
    """The strategy's own engine on the outbox's database."""
    engine = create_engine(driver_url(outbox_url))
    yield engine
    engine.dispose()


@pytest.fixture
async def theirs_async(outbox_url: str) -> AsyncIterator[AsyncEngine]:
    """The same for asyncio."""
    engine = create_async_engine(driver_url(outbox_url))
    yield engine
    await engine.dispose()


@pytest.fixture
def producer(outbox_url: str, redis_url: str) -> Iterator[Producer]:
    """A producer with both servers."""
    with producer_on(outbox_url, redis_url) as made:
        yield made


class Announced:
    """Looks at what came out of the background thread."""

    def __init__(self, producer: Producer, redis_url: str) -> None:
        self._producer = producer
        self._redis_url = redis_url

    def settled(self) -> set[str]:
        """The ids of deliveries that were announced, once the background has nothing left to do."""
        self._producer._lifetime.background().flush(5)
        return {str(one["args"][0]) for one in messages(self._redis_url, "deliver")}


@pytest.fixture
def announced(producer: Producer, redis_url: str) -> Announced:
    """What the producer announced in this test."""
    return Announced(producer, redis_url)


def ids(*enqueued: Enqueued) -> set[str]:
    return {str(d.delivery_id) for one in enqueued for d in one.deliveries}


def test_a_commit_stores_and_announces(
    producer: Producer, theirs: Engine, outbox_url: str, announced: Announced
) -> None:
    """Nothing is seen before the session's commit; after it the signal is stored and announced."""
    signal = make_signal()
    with Session(theirs) as session:
        enqueued = producer.enqueue_in(session, signal)
        assert (enqueued.duplicate, enqueued.announced) == (False, False)
        assert str(signal.id) not in stored_ids(outbox_url)
        assert announced.settled() == set()
        session.commit()
    assert str(signal.id) in stored_ids(outbox_url)
    assert announced.settled() == ids(enqueued)


def test_a_rollback_takes_the_signal_along(
    producer: Producer, theirs: Engine, outbox_url: str, announced: Announced
) -> None:
    """Rolled back, closed without a commit or failed: nothing is stored, nothing is announced."""
    signals = [make_signal() for _ in range(3)]
    with Session(theirs) as session:
        producer.enqueue_in(session, signals[0])
        session.rollback()
        producer.enqueue_in(session, signals[1])
    with pytest.raises(ZeroDivisionError), theirs.begin() as connection:
        _ = 1 / len(producer.enqueue_in(connection, signals[2]).deliveries[1:])
    assert not {str(signal.id) for signal in signals} & stored_ids(outbox_url)
    assert announced.settled() == set()


def test_a_plain_connection_will_do(
    producer: Producer, theirs: Engine, announced: Announced
) -> None:
    """A Connection's own transaction counts like a session's, each one for itself."""
    with theirs.connect() as connection:
        first = producer.enqueue_in(connection, make_signal())
        connection.commit()
        assert announced.settled() == ids(first)
        producer.enqueue_in(connection, make_signal())
        connection.rollback()
        second = producer.enqueue_in(connection, make_signal())
        connection.commit()
    assert announced.settled() == ids(first, second)


def test_a_savepoint_that_is_rolled_back_takes_its_signals_along(
    producer: Producer, theirs: Engine, outbox_url: str, announced: Announced
) -> None:
    """Of signals in nested savepoints those are announced whose savepoints all were kept."""
    dropped = [make_signal(), make_signal()]
    with Session(theirs) as session:
        outer = producer.enqueue_in(session, make_signal())
        with session.begin_nested():
            kept = producer.enqueue_in(session, make_signal())
        undone = session.begin_nested()
        producer.enqueue_in(session, dropped[0])
        with session.begin_nested():
            producer.enqueue_in(session, dropped[1])
        undone.rollback()
        last = producer.enqueue_in(session, make_signal())
        assert announced.settled() == set()
        session.commit()
    assert announced.settled() == ids(outer, kept, last)
    assert not {str(signal.id) for signal in dropped} & stored_ids(outbox_url)


def test_a_savepoint_in_sql_counts_too(
    producer: Producer, theirs: Engine, announced: Announced
) -> None:
    """A savepoint that SQLAlchemy knows nothing of still takes its signals along."""
    with theirs.begin() as connection:
        kept = producer.enqueue_in(connection, make_signal())
        connection.execute(text("SAVEPOINT by_hand"))
        producer.enqueue_in(connection, make_signal())
        connection.execute(text("ROLLBACK TO SAVEPOINT by_hand"))
    assert announced.settled() == ids(kept)


@pytest.mark.parametrize("mode", ["create_savepoint", "control_fully", "conditional_savepoint"])
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_joined_session_waits_for_the_outer_end(
    producer: Producer,
    theirs: Engine,
    announced: Announced,
    mode: Literal["create_savepoint", "control_fully", "conditional_savepoint"],
    ends: str,
) -> None:
    """In a session joined into an outer transaction, that transaction's end decides."""
    with theirs.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode=mode) as session:
            enqueued = producer.enqueue_in(session, make_signal())
            if mode != "control_fully":
                session.commit()
                assert announced.settled() == set()
            getattr(session if mode == "control_fully" else outer, ends)()
    assert announced.settled() == (ids(enqueued) if ends == "commit" else set())


def test_a_commit_that_fails_announces_nothing(
    producer: Producer, theirs: Engine, outbox_url: str, announced: Announced
) -> None:
    """If PostgreSQL refuses the COMMIT itself, nothing was written and nothing is announced."""
    signal = make_signal()
    with theirs.begin() as connection:
        connection.execute(text("CREATE TABLE public.positions (id int PRIMARY KEY)"))
        connection.execute(
            text("""
            CREATE TABLE public.orders (
                position int REFERENCES public.positions DEFERRABLE INITIALLY DEFERRED
            )
            """)
        )
    with Session(theirs) as session:
        session.execute(text("INSERT INTO public.orders VALUES (7)"))
        producer.enqueue_in(session, signal)
        with pytest.raises(DBAPIError, match="orders"):
            session.commit()
    assert announced.settled() == set()
    assert str(signal.id) not in stored_ids(outbox_url)


def test_many_in_one_transaction_ring_the_doorbell(
    producer: Producer, theirs: Engine, announced: Announced, redis_url: str
) -> None:
    """More than a few signals of one transaction are announced by one ring."""
    with Session(theirs) as session, session.begin():
        for _ in range(20):
            producer.enqueue_in(session, make_signal())
    assert announced.settled() == set()
    assert len(messages(redis_url, "drain")) == 1


def test_a_known_signal_is_a_duplicate_here_too(
    producer: Producer, theirs: Engine, announced: Announced
) -> None:
    """What is in the outbox, or came before in the same transaction, is recognised."""
    known, fresh = make_signal(), make_signal()
    first = producer.enqueue(known)
    with Session(theirs) as session, session.begin():
        assert producer.enqueue_in(session, known).deliveries == first.deliveries
        again = [producer.enqueue_in(session, fresh).duplicate for _ in range(2)]
    assert again == [False, True]
    assert announced.settled() >= ids(first)


def test_errors_leave_the_transaction_usable(
    producer: Producer, theirs: Engine, outbox_url: str
) -> None:
    """A conflict and a missing endpoint raise, and the caller may go on and commit."""
    known, fresh = make_signal(), make_signal()
    producer.enqueue(known)
    with Session(theirs) as session:
        with pytest.raises(IdempotencyConflict):
            producer.enqueue_in(session, make_signal(id=known.id, reason="another"))
        with pytest.raises(NoEndpoint):
            producer.enqueue_in(session, make_signal(), endpoints=["nobody"])
        producer.enqueue_in(session, fresh)
        session.commit()
    assert str(fresh.id) in stored_ids(outbox_url)


def test_errors_of_the_caller_s_engine_show_no_body(producer: Producer, theirs: Engine) -> None:
    """An error that the caller's own engine raises does not quote the signal."""
    signal = make_signal()
    with Session(theirs) as holder, Session(theirs) as session:
        producer.enqueue_in(holder, signal)
        session.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout") as caught:
            producer.enqueue_in(session, signal)
    assert REASON not in str(caught.value)
    assert REASON not in repr(caught.value.params)


def test_scoped_sessions_are_sessions(
    producer: Producer, theirs: Engine, announced: Announced
) -> None:
    """The registry that web frameworks hand around may be given as it is."""
    registry = scoped_session(sessionmaker(theirs))
    enqueued = producer.enqueue_in(registry, make_signal())
    registry.commit()
    registry.remove()
    assert announced.settled() == ids(enqueued)


def test_a_session_of_several_databases_is_asked_for_ours(
    producer: Producer, theirs: Engine, announced: Announced
) -> None:
    """A session bound by table is used where it is bound for the outbox's tables."""
    other = create_engine("sqlite://")
    with Session(binds={SignalRow: theirs, AuditRow: other}) as session:
        enqueued = producer.enqueue_in(session, make_signal())
        session.commit()
    assert announced.settled() == ids(enqueued)


@pytest.mark.parametrize("tables", ["template1", None])
def test_a_session_of_another_database_is_refused(
    producer: Producer, postgres_server: str, migrated_template: str, tables: str | None
) -> None:
    """Another database is an error, be it empty or an outbox of its own, and stays as it is."""
    with cloned(postgres_server, tables or migrated_template) as url:
        if tables is None:
            add_endpoints(url, "desk")
        other = create_engine(driver_url(url))
        with Session(other) as session:
            with pytest.raises(WrongDatabase, match="the session is bound to the database 'test_"):
                producer.enqueue_in(session, make_signal())
            assert session.scalar(text("SELECT 1")) == 1
        other.dispose()


def test_a_session_of_no_postgresql_is_refused(producer: Producer) -> None:
    """A session of another kind of database, or of none, is told before any statement."""
    with Session(create_engine("sqlite://")) as other, Session() as unbound:
        for session, told in ((other, "sqlite"), (unbound, "bound to no database")):
            with pytest.raises(WrongDatabase, match=told):
                producer.enqueue_in(session, make_signal())


def test_what_is_no_session_is_a_type_error(producer: Producer, theirs: Engine) -> None:
    """An engine, or a session of the asyncio kind, is told what is wanted instead."""
    wrong: list[Any] = [theirs, AsyncSession(), None]
    for target in wrong:
        with pytest.raises(TypeError, match="enqueue_in_async"):
            producer.enqueue_in(target, make_signal())


def test_without_our_own_database_nothing_is_written(
    theirs: Engine, postgres_server: str, outbox_url: str
) -> None:
    """Where the producer cannot ask its database who it is, no session is trusted blindly."""
    signal = make_signal()
    with producer_on(with_database(postgres_server, "nowhere")) as lost, Session(theirs) as session:
        with pytest.raises(DatabaseUnavailable):
            lost.enqueue_in(session, signal)
        session.commit()
    assert str(signal.id) not in stored_ids(outbox_url)


def test_a_restart_of_the_server_is_no_other_database(server_folder: Path, redis_url: str) -> None:
    """After PostgreSQL was restarted, a new engine on the same database is still recognised."""
    server = stack.postgres_in(server_folder / "restarted")
    migrate(server.url())
    add_endpoints(server.url(), "desk")
    with producer_on(server.url(), redis_url) as producer:
        for _ in range(2):
            engine = create_engine(driver_url(server.url()))
            with Session(engine) as session, session.begin():
                assert not producer.enqueue_in(session, make_signal()).duplicate
            engine.dispose()
            server.stop()
            server.start()
    server.stop()


def test_a_dead_redis_is_not_the_caller_s_matter(theirs: Engine, outbox_url: str) -> None:
    """With Redis away the commit is as it was, and nothing is raised anywhere."""
    signal = make_signal()
    with producer_on(outbox_url, "redis://127.0.0.1:9/0") as producer:
        with Session(theirs) as session, session.begin():
            producer.enqueue_in(session, signal)
        producer._lifetime.background().flush(5)
    assert str(signal.id) in stored_ids(outbox_url)


def test_a_commit_after_the_producer_s_end_is_undisturbed(
    theirs: Engine, outbox_url: str, redis_url: str
) -> None:
    """A transaction that outlives the producer commits all the same, only not announced."""
    signal = make_signal()
    with Session(theirs) as session:
        with producer_on(outbox_url, redis_url) as producer:
            producer.enqueue_in(session, signal)
        session.commit()
        with pytest.raises(EnqueueError, match="closed"):
            producer.enqueue_in(session, make_signal())
    assert str(signal.id) in stored_ids(outbox_url)
    assert messages(redis_url, "deliver") == []


def test_nothing_is_kept_of_transactions_that_are_over(
    producer: Producer, theirs: Engine, announced: Announced
) -> None:
    """However many transactions a connection sees, it carries one listener, and dies with it."""
    with theirs.connect() as connection:
        for _ in range(50):
            producer.enqueue_in(connection, make_signal())
            connection.commit()
        producer.enqueue_in(connection, make_signal())
        connection.rollback()
        assert len(list(connection.dispatch.commit)) == 1
        watched = weakref.ref(connection)
    assert announced.settled()
    del connection
    gc.collect()
    assert watched() is None
    assert not producer._lifetime.background().watch._watched


def test_a_closed_producer_is_told_no_more(theirs: Engine, outbox_url: str) -> None:
    """A connection that outlives the producer carries nothing of it."""
    with theirs.connect() as connection:
        with producer_on(outbox_url) as producer:
            producer.enqueue_in(connection, make_signal())
            listener = producer._lifetime.background().watch._commits
            assert event.contains(connection, "commit", listener)
            background = weakref.ref(producer._lifetime.background())
        del producer, listener
        gc.collect()
        assert background() is None


def test_a_connection_in_autocommit_mode_is_refused(
    producer: Producer, theirs: Engine, outbox_url: str
) -> None:
    """Where no rollback could take the signal back nothing is written, and the error says so."""
    signal = make_signal()
    with Session(theirs.execution_options(isolation_level="AUTOCOMMIT")) as session:
        with pytest.raises(EnqueueError, match="AUTOCOMMIT"):
            producer.enqueue_in(session, signal)
        session.commit()
    assert str(signal.id) not in stored_ids(outbox_url)
    with Session(theirs) as session, session.begin():
        assert not producer.enqueue_in(session, signal).duplicate


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_stricter_isolation_meets_its_own_kind_of_conflict(
    producer: Producer, theirs: Engine, level: str
) -> None:
    """A signal stored since the snapshot is a serialization failure, to be run again as any other.

    What the snapshot already holds is a duplicate as ever.
    """
    known, later = make_signal(), make_signal()
    producer.enqueue(known)
    with Session(theirs.execution_options(isolation_level=level)) as session:
        assert producer.enqueue_in(session, known).duplicate
        producer.enqueue(later)
        with pytest.raises(OperationalError, match="could not serialize") as caught:
            producer.enqueue_in(session, later)
        assert REASON not in repr(caught.value.params) + str(caught.value)
        session.rollback()
        assert producer.enqueue_in(session, later).duplicate


async def test_what_is_no_async_session_is_a_type_error(producer: Producer, theirs: Engine) -> None:
    """A session of the blocking kind, or nothing, is told what is wanted instead."""
    wrong: list[Any] = [Session(theirs), None]
    for target in wrong:
        with pytest.raises(TypeError, match="asyncio twins"):
            await producer.enqueue_in_async(target, make_signal())


def test_a_prepared_transaction_waits_for_its_second_phase(
    server_folder: Path, redis_url: str
) -> None:
    """In a two-phase transaction the second commit decides; a rollback there takes it all along."""
    server = stack.postgres_in(server_folder / "two-phase")
    migrate(server.url())
    add_endpoints(server.url(), "desk")
    engine = create_engine(driver_url(server.url()))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ALTER SYSTEM SET max_prepared_transactions = 5"))
    engine.dispose()
    server.stop()
    server.start()
    with (
        producer_on(server.url(), redis_url) as producer,
        Session(engine, twophase=True) as session,
    ):
        announced = Announced(producer, redis_url)
        first = producer.enqueue_in(session, make_signal())
        session.prepare()
        assert announced.settled() == set()
        session.commit()
        assert announced.settled() == ids(first)
        producer.enqueue_in(session, make_signal())
        session.prepare()
        session.rollback()
        assert announced.settled() == ids(first)
    engine.dispose()
    server.stop()


async def test_an_async_session_commits_and_rolls_back(
    producer: Producer, theirs_async: AsyncEngine, outbox_url: str, announced: Announced
) -> None:
    """In an AsyncSession the same holds: with its commit, gone with its rollback."""
    kept, dropped = make_signal(), make_signal()
    async with AsyncSession(theirs_async) as session:
        enqueued = await producer.enqueue_in_async(session, kept)
        assert announced.settled() == set()
        await session.commit()
        await producer.enqueue_in_async(session, dropped)
        await session.rollback()
        with pytest.raises(NoEndpoint):
            await producer.enqueue_in_async(session, make_signal(), endpoints=["nobody"])
        assert await session.scalar(text("SELECT 1")) == 1
    assert announced.settled() == ids(enqueued)
    stored = stored_ids(outbox_url)
    assert (str(kept.id) in stored, str(dropped.id) in stored) == (True, False)


async def test_an_async_connection_and_a_scoped_session_will_do(
    producer: Producer, theirs_async: AsyncEngine, announced: Announced
) -> None:
    """The other asyncio kinds are taken alike."""
    async with theirs_async.begin() as connection:
        first = await producer.enqueue_in_async(connection, make_signal())
    registry = async_scoped_session(async_sessionmaker(theirs_async), scopefunc=lambda: 1)
    second = await producer.enqueue_in_async(registry, make_signal())
    await registry.commit()
    await registry.remove()
    wait_for(lambda: announced.settled() == ids(first, second), 5)


async def test_an_async_session_of_another_database_is_refused(
    producer: Producer, postgres_server: str
) -> None:
    """The wrong database is told in asyncio too, and the session stays usable."""
    with cloned(postgres_server, "template1") as url:
        other = create_async_engine(driver_url(url))
        for _ in range(2):
            async with AsyncSession(other) as session:
                with pytest.raises(WrongDatabase):
                    await producer.enqueue_in_async(session, make_signal())
                assert await session.scalar(text("SELECT 1")) == 1
        await other.dispose()


def test_a_connection_is_its_own_evidence(producer: Producer, theirs: Engine) -> None:
    """The question which database it is runs once an engine, not once a signal."""
    asked: list[str] = []

    def note(_: Connection, __: object, statement: str, *___: object) -> None:
        asked.append(statement)

    event.listen(theirs, "before_cursor_execute", note)
    with theirs.begin() as connection:
        for _ in range(3):
            producer.enqueue_in(connection, make_signal())
    event.remove(theirs, "before_cursor_execute", note)
    assert sum("pg_postmaster_start_time" in statement for statement in asked) == 1
    assert len(asked) == 4
