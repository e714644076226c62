from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import celery
import pytest
from celery.contrib.testing.worker import start_worker
from kombu import Connection
from redis import Redis

from signalpost import broker as broker_module
from signalpost.broker import FEW, SKIP_SECONDS, Announcement, Broker
from signalpost.embedded.valkey import ValkeyServer
from tests import stack
from tests.producing import messages


class Clock:
    """A monotonic clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def broker(redis_url: str) -> Iterator[Broker]:
    """A broker on an empty Redis."""
    made = Broker(redis_url)
    yield made
    made.close()


@pytest.fixture
def own_redis(server_folder: Path) -> Iterator[ValkeyServer]:
    """A Redis that a test may stop and start."""
    folder = server_folder / f"redis-{uuid4().hex[:8]}"
    folder.mkdir()
    server = stack.redis_in(folder)
    yield server
    server.stop()


def announcement(**values: Any) -> Announcement:
    fields = {
        "delivery_id": uuid4(),
        "signal_id": uuid4(),
        "instrument": "AAPL",
        "endpoint": "desk",
    }
    return Announcement(**{**fields, **values})


def length(redis_url: str, queue: str) -> int:
    return len(messages(redis_url, queue))


def test_a_few_get_a_message_each(broker: Broker, redis_url: str) -> None:
    """Up to a handful of deliveries go out one by one, in order, with labels that Flower shows."""
    few = [announcement(endpoint=f"desk-{number}") for number in range(FEW)]
    assert broker.announce(few)
    sent = messages(redis_url, "deliver")
    assert [one["args"] for one in sent] == [[str(item.delivery_id)] for item in few]
    assert [one["shown"] for one in sent] == [
        f"(delivery {item.delivery_id}, signal {item.signal_id}, AAPL, endpoint {item.endpoint})"
        for item in few
    ]
    assert length(redis_url, "drain") == 0


def test_more_ring_the_doorbell(broker: Broker, redis_url: str) -> None:
    """More deliveries than a handful ring once, and carry no ids."""
    assert broker.announce([announcement() for _ in range(FEW + 1)])
    assert length(redis_url, "deliver") == 0
    [message] = messages(redis_url, "drain")
    assert (message["task"], message["args"], message["shown"]) == ("signalpost.drain", [], "()")


def test_nothing_to_announce_is_announced(redis_url: str) -> None:
    """An empty list is done without asking Redis anything."""
    assert Broker("redis://127.0.0.1:9/0").announce([])
    assert Broker(redis_url).announce_alerts([])


def test_a_doorbell_that_rings_is_not_rung_again(broker: Broker, redis_url: str) -> None:
    """While a drain waits in the queue further rings add none; once it was taken, one does."""
    assert all(broker.ring() for _ in range(10))
    assert length(redis_url, "drain") == 1
    with Redis.from_url(redis_url) as client:
        client.brpop(["drain"], timeout=1)
    assert broker.ring()
    assert length(redis_url, "drain") == 1


def test_a_doorbell_rung_by_many_at_once_adds_one_drain(broker: Broker, redis_url: str) -> None:
    """Rings from many threads leave one drain: asking and pushing are one step inside Redis."""
    with ThreadPoolExecutor(10) as pool:
        assert all(pool.map(lambda _: broker.ring(), range(100)))
    assert length(redis_url, "drain") == 1


def test_alerts_are_announced_by_number(broker: Broker, redis_url: str) -> None:
    """An alert's message holds its number and nothing else."""
    assert broker.announce_alerts([7, 8])
    sent = messages(redis_url, "alerts")
    assert [(one["task"], one["args"], one["shown"]) for one in sent] == [
        ("signalpost.alert", [7], "(alert 7)"),
        ("signalpost.alert", [8], "(alert 8)"),
    ]


def test_of_many_alerts_a_few_are_announced(broker: Broker, redis_url: str) -> None:
    """A storm of alerts puts a few messages into the queue, not one for each."""
    assert broker.announce_alerts(range(500))
    assert length(redis_url, "alerts") == FEW


def test_every_message_has_ids_of_its_own(broker: Broker, redis_url: str) -> None:
    """No two messages share a task id or a delivery tag, or Celery would take one for the other."""
    for _ in range(20):
        broker.announce([announcement() for _ in range(FEW)])
    with Connection(redis_url) as connection, connection.SimpleQueue("deliver") as queue:
        taken = [queue.get(timeout=5) for _ in range(20 * FEW)]
        tags = {message.delivery_tag for message in taken}
        tasks = {message.headers["id"] for message in taken}
        for message in taken:
            message.ack()
    assert len(tags) == len(tasks) == 20 * FEW


@contextmanager
def logging_kept() -> Iterator[None]:
    """A Celery worker in this process leaves the root logger at its own level and handlers."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def test_a_celery_worker_runs_what_is_announced(broker: Broker, redis_url: str) -> None:
    """A worker that knows the task's names only takes the messages, arguments included."""
    app = celery.Celery("receiving", broker=redis_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"], task_ignore_result=True, worker_hijack_root_logger=False
    )
    done: list[tuple[str, tuple[Any, ...]]] = []
    arrived = threading.Semaphore(0)

    def note(name: str) -> None:
        @app.task(name=name, shared=False)
        def run(*args: Any) -> None:
            done.append((name, args))
            arrived.release()

    for name in (broker_module.DELIVER_TASK, broker_module.DRAIN_TASK, broker_module.ALERT_TASK):
        note(name)
    item = announcement()
    broker.announce([item])
    broker.ring()
    broker.announce_alerts([7])
    queues = ["deliver", "drain", "alerts"]
    with (
        logging_kept(),
        start_worker(app, pool="solo", perform_ping_check=False, queues=queues),
    ):
        assert all(arrived.acquire(timeout=10) for _ in range(3))
    assert sorted(done) == [
        ("signalpost.alert", (7,)),
        ("signalpost.deliver", (str(item.delivery_id),)),
        ("signalpost.drain", ()),
    ]


def test_the_strategy_s_own_celery_is_left_alone(broker: Broker) -> None:
    """Announcing does not make our app the current one of a process that has its own."""
    mine = celery.Celery("mine", broker="memory://", set_as_current=False)
    before = celery.current_app.main
    broker.announce([announcement()])
    assert celery.current_app.main == before
    with mine.connection_for_write() as connection, connection.SimpleQueue("deliver") as queue:
        assert queue.qsize() == 0


def test_without_a_redis_nothing_is_announced() -> None:
    """No URL, no message, no error."""
    broker = Broker(None)
    assert not broker.announce([announcement()])
    assert not broker.ring()
    assert not broker.announce_alerts([7])
    broker.close()


def test_a_dead_redis_is_left_alone_for_a_while(own_redis: ValkeyServer) -> None:
    """After a failure Redis is not asked for two seconds, even if it is back; then it is."""
    clock = Clock()
    broker = Broker(own_redis.url(), monotonic=clock)
    assert broker.announce([announcement()])
    own_redis.stop()
    assert not broker.announce([announcement()])
    own_redis.start()
    clock.now += SKIP_SECONDS - 0.1
    assert not broker.announce([announcement()])
    clock.now += 0.2
    assert broker.announce([announcement()])
    broker.close()


def test_a_restarted_redis_is_not_noticed(own_redis: ValkeyServer) -> None:
    """A connection from before a restart is replaced within the call."""
    broker = Broker(own_redis.url())
    assert broker.ring()
    own_redis.stop()
    own_redis.start()
    assert broker.ring()
    broker.close()


def test_an_outage_is_logged_once(
    own_redis: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """However many announcements fail, one warning tells of it, without the address; so the end."""
    caplog.set_level(logging.INFO, logger="signalpost.broker")
    clock = Clock()
    broker = Broker(own_redis.url(), monotonic=clock)
    own_redis.stop()
    for _ in range(5):
        clock.now += SKIP_SECONDS + 1
        assert not broker.ring()
    own_redis.start()
    clock.now += SKIP_SECONDS + 1
    assert broker.ring()
    broker.close()
    texts = [record.getMessage() for record in caplog.records]
    assert [text.partition(" (")[0] for text in texts] == [
        "Redis takes no messages",
        "Redis takes messages again",
    ]
    assert not [text for text in texts if own_redis.password in text]


def test_a_silent_redis_costs_a_bounded_time() -> None:
    """A server that takes the connection and never answers is given up within 1.5 seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = Broker(f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        broker.warm_up()
        begun = time.monotonic()
        assert not broker.announce([announcement()])
        assert time.monotonic() - begun < 1.7
        begun = time.monotonic()
        assert not broker.ring()
        assert time.monotonic() - begun < 0.1
        broker.close()


def test_a_full_redis_is_a_failure_like_any_other(own_redis: ValkeyServer) -> None:
    """A Redis that refuses writes for want of memory takes no message, and raises nothing."""
    with Redis.from_url(own_redis.url()) as client:
        client.config_set("maxmemory", 1)
    broker = Broker(own_redis.url())
    assert not broker.announce([announcement()])
    broker.close()


@pytest.mark.parametrize("wrong", ["password", "value", "option"])
def test_a_wrong_address_raises_nothing(redis_url: str, wrong: str) -> None:
    """A wrong password and an option that nobody understands are told by False alone."""
    parts = urlsplit(redis_url)
    url = {
        "password": parts._replace(netloc=f":wonderland@{parts.hostname}:{parts.port}").geturl(),
        "value": f"{redis_url}?socket_timeout=wonderland",
        "option": f"{redis_url}?wonderland=1",
    }[wrong]
    broker = Broker(url)
    assert not broker.announce([announcement()])
    broker.close()


def test_a_closed_broker_opens_anew(broker: Broker) -> None:
    """Closing ends the connections; a later call makes new ones."""
    assert broker.ring()
    broker.close()
    assert broker.ring()
