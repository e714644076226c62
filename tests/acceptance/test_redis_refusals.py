"""A Redis that is there and serves nobody: after a fail-over, while it loads, full, stopped, deaf.

One worker lives through all of them, by way of a proxy. Deliveries go on at the rescue's pace.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from signalpost import database
from signalpost.cli.roles import celery_argv
from signalpost.embedded.launching import free_port
from signalpost.embedded.valkey import ValkeyServer
from tests import receivers, stack
from tests.acceptance.celery_cluster import LocalWorker, worker_settings
from tests.acceptance.redis_stand import Stand, measured, times
from tests.databases import cloned
from tests.processes import Program, wait_for
from tests.proxy import Proxy
from tests.waiting import until

ROOT = Path(__file__).parents[2]
KEYS, LOADED_MICROSECONDS = 400, 10_000


class SoonTiredWorker(LocalWorker):
    """A deliver worker that gives a silent Redis up after 2 s instead of 10."""

    def _start(self) -> Program:
        argv = celery_argv(self.role)
        argv[argv.index("-A") + 1] = "tests.acceptance.soon_tired_worker"
        return Program(argv, env=self._environment, cwd=ROOT)


Trouble = Callable[[Stand, Proxy], AbstractContextManager[object]]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = stack.redis_in(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def proxy(redis: ValkeyServer) -> Iterator[Proxy]:
    with Proxy(redis.url(), lambda _: "pass") as proxy:
        yield proxy


@pytest.fixture(scope="module")
def shared_stand(
    postgres_server: str, migrated_template: str, redis: ValkeyServer, proxy: Proxy
) -> Iterator[Stand]:
    with cloned(postgres_server, migrated_template) as url:
        engine = database.sync_engine(url)
        worker = SoonTiredWorker("deliver", worker_settings(url, proxy.url))
        yield Stand(url, engine, redis, worker)
        worker.teardown()
        engine.dispose()


@pytest.fixture
def stand(shared_stand: Stand) -> Stand:
    """The shared one, working, whatever the test before has left."""
    if shared_stand.worker.status != "running":
        shared_stand.worker.restart()
    shared_stand.consumes()
    return shared_stand


@contextmanager
def configured(stand: Stand, name: str, value: str | int, after: str | int) -> Iterator[None]:
    with stand.client() as client:
        client.config_set(name, value)
        try:
            yield
        finally:
            client.config_set(name, after)


@contextmanager
def replica(stand: Stand, _proxy: Proxy) -> Iterator[None]:
    """It was demoted: whatever would write is refused."""
    with stand.client() as client:
        client.replicaof("127.0.0.1", free_port())
        try:
            yield
        finally:
            client.replicaof("NO", "ONE")


@contextmanager
def orphan(stand: Stand, proxy: Proxy) -> Iterator[None]:
    """It was demoted, its master is away, and it answers nothing from what it has."""
    with configured(stand, "replica-serve-stale-data", "no", "yes"), replica(stand, proxy):
        yield


@contextmanager
def loading(stand: Stand, _proxy: Proxy) -> Iterator[None]:
    """It loads what its new master has, and has only that when it serves again."""
    master = stack.redis_in(stand.redis.folder.parent / "master")
    with (
        stand.client() as client,
        stand.client_of(master) as source,
        configured(stand, "masterauth", master.password, ""),
        configured(stand, "loading-process-events-interval-bytes", 1024, 2 << 20),
        configured(stand, "key-load-delay", LOADED_MICROSECONDS, 0),
    ):
        source.mset({f"key-{number}": "x" * 1000 for number in range(KEYS)})
        source.config_set("repl-diskless-sync-delay", 0)
        client.replicaof("127.0.0.1", master.port)
        try:
            yield
        finally:
            client.config_set("key-load-delay", 0)
            # Until then it takes no such order.
            wait_for(lambda: not client.info("persistence")["loading"], what="the end of loading")
            client.replicaof("NO", "ONE")
            master.stop()


@contextmanager
def full(stand: Stand, _proxy: Proxy) -> Iterator[None]:
    """Its memory is used up: nothing can be put down."""
    with configured(stand, "maxmemory", 1, 0):
        yield


@contextmanager
def frozen(stand: Stand, _proxy: Proxy) -> Iterator[None]:
    """Its process is stopped: connections are made, and nothing is ever answered."""
    assert stand.redis.process is not None
    stand.redis.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        stand.redis.process.send_signal(signal.SIGCONT)


@contextmanager
def deserted(_stand: Stand, proxy: Proxy) -> Iterator[None]:
    """Its machine is gone without a word, and another one answers in its place."""
    proxy.desert()
    yield


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (replica, "READONLY|read only replica"),
        (orphan, "MASTERDOWN|Link with MASTER"),
        (loading, "LOADING|loading the dataset"),
        (full, "OOM|maxmemory"),
        (frozen, "Redis takes no messages"),
        (deserted, "dropping stale connection"),
    ],
)
async def test_a_redis_that_serves_nobody_costs_no_delivery(
    stand: Stand, proxy: Proxy, trouble: Trouble, said: str
) -> None:
    """The worker meets the refusal and outlives it; what is due goes out meanwhile, once; and
    messages flow again soon after the end.
    """
    before = len(stand.worker.program.lines)
    async with receivers.receiver() as receiver:
        with trouble(stand, proxy):
            await asyncio.to_thread(stand.worker.program.wait_for_line, said, 20, after=before)
            ids = stand.due(receiver.url, 5)
            began = time.monotonic()
            await until(lambda: stand.delivered(ids), seconds=10)
            measured(f"{said}: due to delivered", began)
        began = time.monotonic()
        await asyncio.to_thread(stand.consumes)
        measured(f"{said}: over to the first message taken", began)
    assert stand.worker.status == "running"
    assert times(receiver) == {1}
