"""The producer's deadline and its errors while servers are slow, silent, broken or away."""

from __future__ import annotations

import os
import signal as signals
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from signalpost import (
    DatabaseUnavailable,
    EnqueueError,
    EnqueueTimeout,
    EnqueueUnknown,
    Producer,
    Signal,
)
from signalpost.database import migrate
from signalpost.embedded.postgres import PostgresServer
from signalpost.errors import SchemaError
from signalpost.settings import driver_url
from tests import stack
from tests.databases import cloned
from tests.processes import wait_for
from tests.producing import add_endpoints, make_signal, outbox, producer_on, stored_ids
from tests.proxy import Proxy


@pytest.fixture(scope="module")
def outbox_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """A database with an endpoint, on the server of all tests."""
    with outbox(postgres_server, migrated_template, "desk") as url:
        yield url


@pytest.fixture(scope="module")
def looking(outbox_url: str) -> Iterator[Engine]:
    """An engine of the tests' own on the same database."""
    engine = create_engine(driver_url(outbox_url))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def own_server(server_folder: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL that these tests may stop, freeze and restart."""
    server = stack.postgres_in(server_folder / "faults")
    migrate(server.url())
    add_endpoints(server.url(), "desk")
    yield server
    server.stop()


@contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Every process of the server stopped by SIGSTOP, then going on."""
    assert server.process is not None
    postmaster = psutil.Process(server.process.pid)
    stopped = [postmaster, *postmaster.children()]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            process.resume()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def elsewhere(url: str, *, port: int, password: str = "") -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{password}@127.0.0.1:{port}").geturl()


def tried(producer: Producer, signal: Signal, timeout: float) -> tuple[EnqueueError, float]:
    """The error of an enqueue that fails, and how many seconds it took."""
    begun = time.monotonic()
    with pytest.raises(EnqueueError) as caught:
        producer.enqueue(signal, timeout=timeout)
    return caught.value, time.monotonic() - begun


def test_a_database_that_is_down_is_told_at_once() -> None:
    """Nobody listening is no matter of waiting: the error comes at once and says where to look."""
    url = f"postgresql://alice:wonderland@127.0.0.1:{closed_port()}/trading"
    with producer_on(url) as producer:
        error, seconds = tried(producer, make_signal(), 5)
    assert type(error) is DatabaseUnavailable
    assert seconds < 2
    assert "check DATABASE_URL" in str(error)
    assert "refused" in str(error)
    assert "wonderland" not in str(error)


@pytest.mark.parametrize("host", ["exa..mple", "a" * 70 + ".example", "no-such-host.invalid"])
def test_a_host_that_is_none_is_told(host: str) -> None:
    """A name that nobody has, or nobody can have, is a database that cannot be reached."""
    with producer_on(f"postgresql://alice:wonderland@{host}/trading") as producer:
        error, _ = tried(producer, make_signal(), 20)
    assert type(error) is DatabaseUnavailable
    assert "check DATABASE_URL" in str(error)
    assert "wonderland" not in str(error)


def test_a_server_s_own_statement_timeout_is_told_as_time(outbox_url: str, looking: Engine) -> None:
    """Where the role's statement_timeout ends the wait, the caller is told to call again."""
    url = f"{outbox_url}?options=-cstatement_timeout%3D100"
    with producer_on(url) as producer, looking.connect() as holder:
        producer.enqueue(make_signal())
        holder.execute(text("LOCK TABLE signalpost.endpoints IN ACCESS EXCLUSIVE MODE"))
        error, seconds = tried(producer, make_signal(), 5)
        holder.rollback()
    assert type(error) is EnqueueTimeout
    assert seconds < 2


def test_a_role_without_rights_is_told_what_it_needs(outbox_url: str, looking: Engine) -> None:
    """A role that may connect and look but not write is told which rights are missing."""
    with looking.begin() as connection:
        connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'guest'"))
        connection.execute(text("GRANT USAGE ON SCHEMA signalpost TO guest"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA signalpost TO guest"))
    url = urlsplit(outbox_url)._replace(netloc=f"guest:guest@127.0.0.1:{urlsplit(outbox_url).port}")
    with producer_on(url.geturl()) as producer:
        error, _ = tried(producer, make_signal(), 5)
    with looking.begin() as connection:
        connection.execute(text("DROP OWNED BY guest"))
        connection.execute(text("DROP ROLE guest"))
    assert type(error) is EnqueueError
    assert "grant it" in str(error)


def test_a_wrong_password_is_told_without_it(outbox_url: str) -> None:
    """A database that lets nobody in counts as unreachable, and the password stays unsaid."""
    port = urlsplit(outbox_url).port or 0
    url = elsewhere(outbox_url, port=port, password="wonderland")
    with producer_on(url) as producer:
        error, _ = tried(producer, make_signal(), 5)
    assert type(error) is DatabaseUnavailable
    assert "password authentication failed" in str(error)
    assert "wonderland" not in str(error)


def test_a_silent_address_is_given_up_in_time() -> None:
    """A port that takes the connection and never speaks costs no more than the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"postgresql://alice@127.0.0.1:{listener.getsockname()[1]}/trading"
        with producer_on(url) as producer:
            error, seconds = tried(producer, make_signal(), 0.3)
    assert type(error) is EnqueueTimeout
    assert seconds < 0.6


def test_without_tables_the_remedy_is_told(postgres_server: str) -> None:
    """A database that was never migrated is told as such, before any statement of ours fails."""
    with cloned(postgres_server, "template1") as url, producer_on(url) as producer:
        error, _ = tried(producer, make_signal(), 5)
    assert type(error) is SchemaError
    assert "signalpost migrate" in str(error)


def test_a_database_that_takes_no_writes_is_told(
    postgres_server: str, migrated_template: str
) -> None:
    """A read-only server, as a standby is, cannot take signals and is told as unavailable."""
    with outbox(postgres_server, migrated_template, "desk") as url:
        read_only = f"{url}?options=-cdefault_transaction_read_only%3Don"
        with producer_on(read_only) as producer:
            error, _ = tried(producer, make_signal(), 5)
    assert type(error) is DatabaseUnavailable
    assert "takes no writes" in str(error)


def test_waiting_for_another_transaction_ends_in_time(outbox_url: str, looking: Engine) -> None:
    """A transaction that holds the same signal cannot hold the caller, and no wait lingers."""
    signal = make_signal()
    with producer_on(outbox_url) as producer, looking.connect() as holder:
        producer.enqueue(make_signal())
        hold(holder, signal)
        error, seconds = tried(producer, signal, 0.5)
        assert type(error) is EnqueueTimeout
        assert "another transaction" in str(error)
        assert seconds < 0.8
        assert waiting(holder) == 0
        holder.rollback()
        assert not producer.enqueue(signal).duplicate


def test_an_interrupted_call_writes_nothing(outbox_url: str, looking: Engine) -> None:
    """Ctrl-C, or any signal handler that raises, ends a call that waits, with nothing written."""

    def interrupt(*_: object) -> None:
        raise InterruptedError("the strategy's own handler")

    signal = make_signal()
    before = signals.signal(signals.SIGUSR1, interrupt)
    try:
        with producer_on(outbox_url) as producer, looking.connect() as holder:
            producer.enqueue(make_signal())
            hold(holder, signal)
            timer = threading.Timer(0.2, os.kill, (os.getpid(), signals.SIGUSR1))
            timer.start()
            with pytest.raises(InterruptedError):
                producer.enqueue(signal, timeout=10)
            holder.rollback()
            wait_for(lambda: waiting(holder) == 0, 5, "the statement that was given up is gone")
            assert not producer.enqueue(signal).duplicate
    finally:
        signals.signal(signals.SIGUSR1, before)


def hold(connection: Connection, signal: Signal) -> None:
    statement = text("""
        INSERT INTO signalpost.signals
            (id, producer_id, idempotency_key, body, instrument, side, action)
        VALUES (:id, 'tests', CAST(:id AS text), '', 'AAPL', 'buy', 'open')
        """)
    connection.execute(statement, {"id": signal.id})


def waiting(connection: Connection) -> int:
    return int(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")) or 0)


def test_a_table_lock_ends_in_time(outbox_url: str, looking: Engine) -> None:
    """Whatever lock it is that a statement waits for, the caller is free at the deadline."""
    with producer_on(outbox_url) as producer, looking.connect() as holder:
        producer.enqueue(make_signal())
        holder.execute(text("LOCK TABLE signalpost.endpoints IN ACCESS EXCLUSIVE MODE"))
        error, seconds = tried(producer, make_signal(), 0.4)
        assert type(error) is EnqueueTimeout
        assert seconds < 0.7
        holder.rollback()
        wait_for(lambda: waiting(holder) == 0, 10, "the statement that was given up is gone")


def test_a_frozen_server_cannot_hold_the_caller(own_server: PostgresServer) -> None:
    """With every process of PostgreSQL stopped, a call still ends in time, with nothing written."""
    url, signal, other = own_server.url(), make_signal(), make_signal()
    with producer_on(url) as producer:
        producer.enqueue(make_signal())
        with frozen(own_server):
            error, seconds = tried(producer, signal, 0.5)  # on a connection from the pool
            again, more_seconds = tried(producer, other, 0.5)  # on one that is not made
        assert (type(error), type(again)) == (EnqueueTimeout, EnqueueTimeout)
        assert "nothing was written" in str(error)
        assert seconds < 0.8
        assert more_seconds < 0.8
        producer.enqueue(make_signal(), timeout=10)
        assert not {str(signal.id), str(other.id)} & stored_ids(url)
        assert not producer.enqueue(signal).duplicate


def test_many_callers_of_a_frozen_server_are_all_freed(own_server: PostgresServer) -> None:
    """More calls than there are connections end in time, and leave the pool in order."""
    with producer_on(own_server.url()) as producer:
        producer.enqueue(make_signal())
        with frozen(own_server):
            begun = time.monotonic()
            for _ in range(12):
                with pytest.raises(EnqueueTimeout):
                    producer.enqueue(make_signal(), timeout=0.05)
            assert time.monotonic() - begun < 3
        results = [producer.enqueue(make_signal(), timeout=10) for _ in range(12)]
    assert not any(one.duplicate for one in results)


def test_closing_is_not_held_by_a_frozen_server(own_server: PostgresServer) -> None:
    """A producer ends within seconds also while PostgreSQL does not answer."""
    with producer_on(own_server.url()) as producer:
        producer.enqueue(make_signal())
        with frozen(own_server):
            begun = time.monotonic()
            producer.close()
            assert time.monotonic() - begun < 4


def test_a_restarted_server_is_not_noticed(own_server: PostgresServer) -> None:
    """Connections from before a restart are replaced within the call, without an error."""
    with producer_on(own_server.url()) as producer:
        producer.enqueue(make_signal())
        own_server.stop()
        error, seconds = tried(producer, make_signal(), 5)
        assert type(error) is DatabaseUnavailable
        assert seconds < 2
        own_server.start()
        assert not producer.enqueue(make_signal(), timeout=10).duplicate


@pytest.mark.parametrize("fate", ["cut", "pass and cut"])
def test_a_connection_lost_while_committing_is_unknown(outbox_url: str, fate: str) -> None:
    """If the connection breaks at COMMIT nobody knows, the error says so, and calling again heals.

    Whether the COMMIT arrived or not, the second call ends with the signal stored once.
    """
    signal = make_signal()

    def watch(data: bytes) -> str:
        return fate if b"COMMIT\0" in data and armed else "pass"

    armed: list[bool] = []
    with Proxy(outbox_url, watch) as proxy, producer_on(proxy.url) as producer:
        producer.enqueue(make_signal())
        armed.append(True)
        error, seconds = tried(producer, signal, 5)
        assert type(error) is EnqueueUnknown
        assert "call again with the same signal" in str(error)
        assert seconds < 2
        armed.clear()
        wait_for(lambda: (str(signal.id) in stored_ids(outbox_url)) == (fate == "pass and cut"))
        again = producer.enqueue(signal, timeout=10)
        assert again.duplicate == (fate == "pass and cut")
        assert len(again.deliveries) == 1


def test_a_deadline_while_committing_is_unknown(outbox_url: str) -> None:
    """If no answer to COMMIT comes before the deadline, the error says that it may be written."""
    signal = make_signal()

    def watch(data: bytes) -> str:
        return "hold" if b"COMMIT\0" in data and armed else "pass"

    armed: list[bool] = []
    with Proxy(outbox_url, watch) as proxy, producer_on(proxy.url) as producer:
        producer.enqueue(make_signal())
        armed.append(True)
        error, seconds = tried(producer, signal, 0.4)
        assert type(error) is EnqueueUnknown
        assert seconds < 0.7
        armed.clear()
        assert not producer.enqueue(signal, timeout=10).duplicate


async def test_an_awaited_commit_without_answer_is_unknown(outbox_url: str) -> None:
    """For awaiting callers the moment of COMMIT decides alike."""
    signal = make_signal()

    def watch(data: bytes) -> str:
        return "hold" if b"COMMIT\0" in data and armed else "pass"

    armed: list[bool] = []
    with Proxy(outbox_url, watch) as proxy, producer_on(proxy.url) as producer:
        await producer.enqueue_async(make_signal())
        armed.append(True)
        with pytest.raises(EnqueueUnknown):
            await producer.enqueue_async(signal, timeout=0.3)
        armed.clear()
        assert not (await producer.enqueue_async(signal, timeout=10)).duplicate


def test_connections_that_fell_silent_are_not_kept(outbox_url: str) -> None:
    """Calls given up on connections that say nothing any more do not use the pool up."""

    def watch(data: bytes) -> str:
        return "hold" if b"INSERT INTO signalpost.signals" in data and armed else "pass"

    armed: list[bool] = []
    with Proxy(outbox_url, watch) as proxy, producer_on(proxy.url) as producer:
        producer.enqueue(make_signal())
        armed.append(True)
        for _ in range(15):
            error, _ = tried(producer, make_signal(), 0.1)
            assert type(error) is EnqueueTimeout
        armed.clear()
        assert not producer.enqueue(make_signal()).duplicate


def test_a_connection_lost_before_the_commit_is_replaced(outbox_url: str) -> None:
    """A connection that breaks before COMMIT costs nothing: the work is done again on another."""
    lost: list[bytes] = []

    def watch(data: bytes) -> str:
        if b"INSERT INTO signalpost.signals" in data and not lost:
            lost.append(data)
            return "cut"
        return "pass"

    signal = make_signal()
    with Proxy(outbox_url, watch) as proxy, producer_on(proxy.url) as producer:
        assert not producer.enqueue(signal, timeout=10).duplicate
        assert proxy.cuts == 1
        assert producer.enqueue(signal).duplicate


def test_a_connection_that_always_breaks_is_told(outbox_url: str) -> None:
    """If every connection breaks before COMMIT, the database is unavailable and nothing written."""
    signal = make_signal()

    def watch(data: bytes) -> str:
        return "cut" if b"INSERT INTO signalpost.signals" in data else "pass"

    with Proxy(outbox_url, watch) as proxy, producer_on(proxy.url) as producer:
        error, _ = tried(producer, signal, 5)
    assert type(error) is DatabaseUnavailable
    assert str(signal.id) not in stored_ids(outbox_url)


def test_a_dead_redis_costs_no_error_and_little_time(outbox_url: str) -> None:
    """With nobody listening where Redis should be, signals are stored, told as not announced."""
    with producer_on(outbox_url, f"redis://127.0.0.1:{closed_port()}/0") as producer:
        producer.enqueue(make_signal())
        begun = time.monotonic()
        results = [producer.enqueue(make_signal()) for _ in range(20)]
        assert time.monotonic() - begun < 2
    assert not any(one.announced for one in results)


def test_a_silent_redis_keeps_to_the_deadline(outbox_url: str) -> None:
    """A Redis that takes connections and never answers delays one call, within its timeout."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        redis = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        with producer_on(outbox_url, redis) as producer:
            begun = time.monotonic()
            first = producer.enqueue(make_signal(), timeout=0.8)
            assert time.monotonic() - begun < 1.1
            wait_for(lambda: producer.enqueue(make_signal()), 5)
            begun = time.monotonic()
            second = producer.enqueue(make_signal(), timeout=0.8)
            assert time.monotonic() - begun < 0.5
    assert (first.announced, second.announced) == (False, False)
