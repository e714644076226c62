"""The producer across processes: what its work loads, forks, and the end of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from signalpost import Producer
from signalpost.producer.loading import loading
from signalpost.settings import driver_url
from tests.processes import clean_environment, wait_for
from tests.producing import make_signal, messages, outbox, producer_on, stored_ids

ROOT = Path(__file__).parents[2]

ENQUEUE_AND_LEAVE = """
from signalpost import Producer
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from signalpost.settings import driver_url
from tests.producing import make_signal
import os

engine = create_engine(driver_url(os.environ["DATABASE_URL"]))
producer = Producer()
with Session(engine) as session, session.begin():
    producer.enqueue_in(session, make_signal())
engine.dispose()
"""


@pytest.fixture(scope="module")
def outbox_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """A database with an endpoint, shared by these tests."""
    with outbox(postgres_server, migrated_template, "desk") as url:
        yield url


@pytest.fixture
def producer(outbox_url: str, redis_url: str) -> Iterator[Producer]:
    """A producer with both servers."""
    with producer_on(outbox_url, redis_url) as made:
        yield made


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """What a Python process of its own prints and how it ends."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**clean_environment(), "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_enqueueing_loads_no_http_and_no_migrations(outbox_url: str, redis_url: str) -> None:
    """A producer at work needs no HTTP library and no Alembic, and of Celery only its messages."""
    code = f"{ENQUEUE_AND_LEAVE}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    told = run(code, DATABASE_URL=outbox_url, REDIS_URL=redis_url, PRODUCER_ID="tests")
    assert told.returncode == 0, told.stderr
    modules = set(json.loads(told.stdout.splitlines()[-1]))
    assert not {name.partition(".")[0] for name in modules} & {
        "aiohttp",
        "alembic",
        "httpx",
        "starlette",
        "telegram",
    }
    assert "celery" in modules
    assert not modules & {"celery.worker", "celery.bin", "celery.concurrency.thread"}


def test_a_process_that_ends_announces_what_it_committed(outbox_url: str, redis_url: str) -> None:
    """A process that leaves right after its commit still announces, and leaves without noise."""
    before = stored_ids(outbox_url)
    environ = {"DATABASE_URL": outbox_url, "REDIS_URL": redis_url, "PRODUCER_ID": "tests"}
    told = run(ENQUEUE_AND_LEAVE, **environ)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    assert len(stored_ids(outbox_url) - before) == 1
    assert len(messages(redis_url, "deliver")) == 1


def test_a_process_that_ends_is_not_held_by_a_dead_redis(outbox_url: str) -> None:
    """At the end of a process an absent Redis costs about a second at most."""
    environ = {"DATABASE_URL": outbox_url, "REDIS_URL": "redis://127.0.0.1:9/0"}
    told = run(ENQUEUE_AND_LEAVE, **environ, PRODUCER_ID="tests")
    assert told.returncode == 0
    assert "Traceback" not in told.stderr


def in_a_child(work: object) -> int:
    """The exit status of a forked child that calls `work`, which must be true."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)  # type: ignore[operator]
        except BaseException:  # noqa: BLE001 - the child must never return into the test
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_enqueues_for_itself(
    producer: Producer, outbox_url: str, redis_url: str
) -> None:
    """After a fork child and parent both enqueue, each on connections of its own."""
    producer.enqueue(make_signal())
    theirs = [make_signal() for _ in range(3)]
    for signal in theirs:
        assert in_a_child(lambda signal=signal: producer.enqueue(signal).announced) == 0
        assert producer.enqueue(make_signal()).announced
    assert {str(signal.id) for signal in theirs} <= stored_ids(outbox_url)
    assert len(messages(redis_url, "deliver")) == 1 + 2 * len(theirs)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_s_end_leaves_the_parent_s_connections_alone(
    producer: Producer, outbox_url: str
) -> None:
    """A child that closes its producer and collects its garbage does not reach into the parent."""
    producer.enqueue(make_signal())
    before = backends(outbox_url)

    def child() -> bool:
        import gc  # noqa: PLC0415

        producer.enqueue(make_signal())
        producer.close()
        gc.collect()
        return True

    assert in_a_child(child) == 0
    assert not producer.enqueue(make_signal()).duplicate
    assert before <= backends(outbox_url)


def backends(url: str) -> set[int]:
    """The server processes of all producers' connections."""
    statement = text("SELECT pid FROM pg_stat_activity WHERE application_name = 'signalpost'")
    engine = create_engine(driver_url(url))
    with engine.connect() as connection:
        found = {int(pid) for pid in connection.scalars(statement)}
    engine.dispose()
    return found


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_work_is_survived(producer: Producer) -> None:
    """A child that is forked while other threads enqueue is not caught by their locks."""
    producer.enqueue(make_signal())
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            producer.enqueue(make_signal(), timeout=10)

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert (
                in_a_child(lambda: not producer.enqueue(make_signal(), timeout=10).duplicate) == 0
            )
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    wait_for(lambda: producer.enqueue(make_signal()).announced, 10)


FORK_AT_ONCE = """
from signalpost import Producer
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from signalpost.settings import driver_url
from tests.producing import make_signal
import os, sys, warnings

warnings.simplefilter("ignore")
engine = create_engine(driver_url(os.environ["DATABASE_URL"]))
producer = Producer()
with Session(engine) as session, session.begin():
    producer.enqueue_in(session, make_signal())
child = os.fork()
if child == 0:
    print(producer.enqueue(make_signal(), timeout=10).announced, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_fork_right_after_the_first_signal_leaves_a_whole_child(
    outbox_url: str, redis_url: str
) -> None:
    """A child that is forked while the background still loads what it needs announces like any."""
    environ = {"DATABASE_URL": outbox_url, "REDIS_URL": redis_url, "PRODUCER_ID": "tests"}
    told = run(FORK_AT_ONCE, **environ)
    assert (told.returncode, told.stdout, told.stderr) == (0, "True\n", "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_waits_until_an_import_is_over() -> None:
    """No child is made while a background thread is in the middle of an import."""
    begun, over = threading.Event(), threading.Event()

    def load() -> None:
        with loading():
            begun.set()
            ended.wait(0.2)
            over.set()

    ended = threading.Event()  # never set: the import takes its time
    thread = threading.Thread(target=load)
    thread.start()
    assert begun.wait(5)
    assert in_a_child(lambda: over.is_set() and thread_may_load()) == 0
    thread.join()


def thread_may_load() -> bool:
    with loading():
        return True
