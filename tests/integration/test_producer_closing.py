"""A producer that is closed while others still call it: each call ends with a result or error."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator, Sequence
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, text

from signalpost import Enqueued, EnqueueError, EnqueueTimeout, EnqueueUnknown, Producer
from signalpost.broker import Announcement
from signalpost.producer.joining import CommitWatch
from signalpost.settings import driver_url
from tests.processes import wait_for
from tests.producing import PRODUCER_ID, make_signal, outbox, stored_ids
from tests.proxy import Proxy


@pytest.fixture(scope="module")
def outbox_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """A database with an endpoint, shared by these tests."""
    with outbox(postgres_server, migrated_template, "desk") as url:
        yield url


@pytest.fixture(scope="module")
def looking(outbox_url: str) -> Iterator[Engine]:
    """An engine of the tests' own on the same database."""
    engine = create_engine(driver_url(outbox_url))
    yield engine
    engine.dispose()


class Calls:
    """Enqueues in threads of their own, one blocking and one on an event loop."""

    def __init__(self, url: str) -> None:
        self.producer = Producer(url, producer_id=PRODUCER_ID, environ={})
        self.producer.enqueue(make_signal())
        self.signals = [make_signal(), make_signal()]
        self.ends: list[Enqueued | BaseException] = []
        self._threads = [
            threading.Thread(target=self._note, args=(call,))
            for call in (self._blocking, self._awaiting)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def ended(self) -> list[Enqueued | BaseException]:
        for thread in self._threads:
            thread.join(10)
        return self.ends

    def _blocking(self) -> Enqueued:
        return self.producer.enqueue(self.signals[0], timeout=5)

    def _awaiting(self) -> Enqueued:
        return asyncio.run(self.producer.enqueue_async(self.signals[1], timeout=5))

    def _note(self, call: object) -> None:
        try:
            self.ends.append(call())  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - a cancellation is what must not come
            self.ends.append(error)


def test_calls_that_are_stuck_are_told_by_closing(outbox_url: str, looking: Engine) -> None:
    """Calls that wait for PostgreSQL when the producer is closed end with an error of ours."""
    calls = Calls(outbox_url)
    with looking.connect() as holder:
        holder.execute(text("LOCK TABLE signalpost.endpoints IN ACCESS EXCLUSIVE MODE"))
        calls.start()
        wait_for(lambda: waiting(holder) == 2, 5, "both calls wait for the lock")
        calls.producer.close()
        ends = calls.ended()
        holder.rollback()
    assert [type(end) for end in ends] == [EnqueueTimeout] * 2
    assert all("before the producer was closed and nothing was written" in str(e) for e in ends)
    assert not {str(signal.id) for signal in calls.signals} & stored_ids(outbox_url)


def waiting(connection: object) -> int:
    statement = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return int(connection.scalar(statement))  # type: ignore[attr-defined]


def test_calls_that_commit_are_told_as_unknown_by_closing(outbox_url: str) -> None:
    """If COMMIT is on its way when the producer is closed, the error says that nobody knows."""
    commits: list[bytes] = []

    def watch(data: bytes) -> str:
        if b"COMMIT\0" not in data or not armed:
            return "pass"
        commits.append(data)
        return "hold"

    armed: list[bool] = []
    with Proxy(outbox_url, watch) as proxy:
        calls = Calls(proxy.url)
        armed.append(True)
        calls.start()
        wait_for(lambda: len(commits) == 2, 5, "both calls commit")
        calls.producer.close()
        ends = calls.ended()
    assert [type(end) for end in ends] == [EnqueueUnknown] * 2
    assert all("before the producer was closed" in str(end) for end in ends)
    assert all("call again with the same signal" in str(end) for end in ends)


def test_running_calls_are_let_end_by_closing(outbox_url: str, looking: Engine) -> None:
    """A call that needs but a moment is waited for, and a call after the end is refused."""
    calls = Calls(outbox_url)
    with looking.connect() as holder:
        holder.execute(text("LOCK TABLE signalpost.endpoints IN ACCESS EXCLUSIVE MODE"))
        calls.start()
        wait_for(lambda: waiting(holder) == 2, 5, "both calls wait for the lock")
        timer = threading.Timer(0.2, holder.rollback)
        timer.start()
        calls.producer.close()
        timer.join()
    assert [type(end) for end in calls.ended()] == [Enqueued] * 2
    with pytest.raises(EnqueueError, match="closed"):
        calls.producer.enqueue(make_signal())


def test_no_call_in_a_storm_gets_a_foreign_error(outbox_url: str) -> None:
    """Whenever the producer is closed, every call has ended well or raised an error of ours."""
    strange: list[BaseException] = []
    done: list[Enqueued] = []

    def keep_calling(producer: Producer) -> None:
        try:
            while True:
                done.append(producer.enqueue(make_signal()))
        except EnqueueError:
            return
        except BaseException as error:  # noqa: BLE001 - just what is looked for
            strange.append(error)

    for _ in range(5):
        producer = Producer(outbox_url, producer_id=PRODUCER_ID, environ={})
        producer.enqueue(make_signal())
        threads = [threading.Thread(target=keep_calling, args=(producer,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        done.clear()
        wait_for(lambda: len(done) >= 20, 5, "all are in the middle of their calls")
        producer.close()
        for thread in threads:
            thread.join(10)
    assert strange == []


def test_closing_in_the_middle_of_a_commit_lets_it_be(looking: Engine) -> None:
    """The caller's COMMIT is sent also where the producer closes while it is announced."""

    def closes(_transaction: object, announcements: Sequence[Announcement]) -> None:
        heard.extend(announcements)
        watch.close()

    heard: list[Announcement] = []
    watch = CommitWatch(closes)
    with looking.connect() as connection:
        connection.execute(text("CREATE TABLE public.theirs (id int)"))
        watch.add(connection, [Announcement(uuid4(), uuid4(), "EURUSD", "desk")])
        connection.commit()
        watch.add(connection, [Announcement(uuid4(), uuid4(), "EURUSD", "desk")])
        connection.commit()
    assert len(heard) == 1
    with looking.connect() as connection:
        assert connection.scalar(text("SELECT to_regclass('public.theirs')")) is not None


def test_a_producer_that_is_dropped_leaves_nothing_behind(
    postgres_server: str, migrated_template: str
) -> None:
    """A producer that nobody holds or closed gives its threads and its connections back."""
    before = set(threading.enumerate())
    with outbox(postgres_server, migrated_template, "desk") as url:
        engine = create_engine(driver_url(url))

        def connections() -> int:
            statement = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :n")
            with engine.connect() as connection:
                return int(connection.scalar(statement, {"n": "dropped"}) or 0)

        named = f"{url}?application_name=dropped"
        producer = Producer(named, producer_id=PRODUCER_ID, environ={})
        producer.enqueue(make_signal())
        assert connections() == 1
        del producer
        gc.collect()
        wait_for(lambda: connections() == 0, 10, "its connections are closed")
        engine.dispose()
    wait_for(lambda: set(threading.enumerate()) <= before, 10, "its threads have ended")
