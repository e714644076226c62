"""What Flower hears and shows of each task: what it was about, how it ended, nothing private."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from aiohttp import web
from sqlalchemy import Engine

from signalpost import Enqueued, Producer, Signal, database
from signalpost.broker import ALERT_TASK, DELIVER_TASK, DRAIN_TASK, PRUNE_TASK
from signalpost.core.signing import secret_bytes, standard_webhooks_secret
from signalpost.embedded.launching import free_port
from tests import receivers, rows, stack
from tests.acceptance.celery_cluster import LocalWorker, worker_settings
from tests.acceptance.task_events import TaskEvents, listeners
from tests.databases import cloned
from tests.engines import SEALED, SECRET
from tests.processes import Program, signalpost, wait_for
from tests.waiting import until

PASSWORD = "battery staple"
PRIVATE = (
    "1017.53129",
    "998.61427",
    "2043.90713",
    "0.73519",
    "a private reason",
    "a private note",
    SECRET,
    standard_webhooks_secret(secret_bytes(SECRET)),
    "/hook",
    "from=tests",
    PASSWORD,
)


@dataclass
class Stand:
    """Both workers, an outbox and a Redis of their own, and a producer."""

    outbox: Engine
    redis_url: str
    producer: Producer
    workers: list[LocalWorker] = field(default_factory=list)

    def endpoint(self, name: str, url: str) -> None:
        with self.outbox.begin() as connection:
            rows.add_endpoint(connection, name=name, url=url, secret_ciphertext=SEALED)


def a_signal(number: int) -> Signal:
    return Signal(
        instrument="AAPL",
        side="buy",
        entry_price="1017.53129",
        stop_loss="998.61427",
        take_profit="2043.90713",
        confidence="0.73519",
        reason="a private reason",
        payload={"note": "a private note", "number": number},
        timestamp=datetime(2026, 1, 5, 12, tzinfo=UTC),
    )


@pytest.fixture(scope="module")
def stand(
    postgres_server: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stand]:
    with ExitStack() as ending:
        redis = stack.redis_in(tmp_path_factory.mktemp("redis"))
        ending.callback(redis.stop)
        url = ending.enter_context(cloned(postgres_server, migrated_template))
        outbox = database.sync_engine(url)
        ending.callback(outbox.dispose)
        producer = ending.enter_context(Producer(url, redis.url(), producer_id="tests", environ={}))
        settings = worker_settings(url, redis.url())
        workers = [LocalWorker("deliver", settings), LocalWorker("ops", settings)]
        for worker in workers:
            ending.callback(worker.teardown)
        assert all(worker.ready() for worker in workers)
        yield Stand(outbox, redis.url(), producer, workers)


@pytest.fixture
def events(stand: Stand) -> Iterator[TaskEvents]:
    with TaskEvents(stand.redis_url) as events:
        yield events


class Echo:
    """Answers with the request's own body, which is private, and these codes in turn."""

    def __init__(self, *codes: int) -> None:
        self._codes = list(codes)

    async def __call__(self, seen: receivers.Seen) -> web.Response:
        code = self._codes.pop(0) if len(self._codes) > 1 else self._codes[0]
        return web.Response(status=code, body=seen.body)


def nothing_private(stand: Stand, shown: str) -> None:
    """Neither in what was shown nor in the workers' logs."""
    logs = "\n".join(worker.logs() for worker in stand.workers)
    assert [word for word in PRIVATE if word in shown + logs] == []


def about(one: Enqueued, number: int = 0) -> tuple[str, ...]:
    """What every text on a delivery must name."""
    delivery = one.deliveries[number]
    return (str(delivery.delivery_id), str(one.signal_id), "AAPL", delivery.endpoint)


async def test_a_retried_delivery_is_told_from_start_to_end(
    stand: Stand, events: TaskEvents
) -> None:
    """Each event of a delivery names it, its signal, instrument, endpoint; a retry says why."""
    async with receivers.receiver(Echo(503, 201)) as receiver:
        stand.endpoint("retried", receiver.url)
        one = await stand.producer.enqueue_async(a_signal(1), endpoints=["retried"])
        await asyncio.to_thread(events.until, lambda: events.of("succeeded"))
    first, second = events.of("received")
    assert first["uuid"] == second["uuid"]
    assert first["args"] == second["args"]
    assert (first["retries"], second["retries"]) == (0, 1)
    (retried,) = events.of("retried")
    (done,) = events.of("succeeded")
    for text in (first["args"], retried["exception"], done["result"]):
        assert all(word in text for word in about(one)), text
    assert "attempt=1 outcome=retry detail=http_503" in retried["exception"]
    assert "attempt=2 outcome=delivered" in done["result"]
    nothing_private(stand, json.dumps(events.found))


async def dead_letter(stand: Stand, number: int) -> tuple[Enqueued, TaskEvents]:
    """A delivery that came to nothing, with all events until its alert's task has ended."""
    with TaskEvents(stand.redis_url) as events:
        one = await stand.producer.enqueue_async(a_signal(number), endpoints=["down"])
        await asyncio.to_thread(events.until, lambda: events.of("succeeded", ALERT_TASK))
    return one, events


async def test_an_exhausted_delivery_and_its_alert_are_told(stand: Stand) -> None:
    """The last attempt says that the delivery is dead, and its alert says the same words."""
    async with receivers.receiver(Echo(500)) as receiver:
        stand.endpoint("down", receiver.url)
        one, events = await dead_letter(stand, 20)
        if events.of("succeeded", ALERT_TASK)[0]["result"] == "[]":
            # Once in a hundred the ops worker's own look is quicker than the message.
            one, events = await dead_letter(stand, 21)
    assert len(events.of("retried")) == 2
    (dead,) = events.of("succeeded", DELIVER_TASK)
    (alerted,) = events.of("succeeded", ALERT_TASK)
    for text in (dead["result"], alerted["result"]):
        assert all(word in text for word in (*about(one), "attempt=3", "status=dead")), text
    assert "receipt=log" in alerted["result"]
    nothing_private(stand, json.dumps(events.found))


async def test_a_drain_tells_of_each_attempt(stand: Stand, events: TaskEvents) -> None:
    """Of a burst, which has one message for all, each attempt is told with its outcome."""
    async with receivers.receiver(Echo(422, 503, 201)) as receiver:
        stand.endpoint("burst", receiver.url)
        found = await asyncio.to_thread(
            stand.producer.enqueue_many, [a_signal(n) for n in range(10, 20)], endpoints=["burst"]
        )
        await asyncio.to_thread(events.until, lambda: events.of("succeeded", DRAIN_TASK))
    (drained,) = events.of("succeeded", DRAIN_TASK)
    for one in found:
        assert all(word in drained["result"] for word in about(one)), drained
    for outcome in ("outcome=rejected detail=http_422", "outcome=retry", "outcome=delivered"):
        assert f"attempt=1 {outcome}" in drained["result"]
    nothing_private(stand, json.dumps(events.found))


@pytest.fixture(scope="module")
def flower(stand: Stand) -> Iterator[str]:
    """The address of a Flower that hears the workers."""
    url = f"http://127.0.0.1:{free_port(0)}"
    environment = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "REDIS_URL": stand.redis_url,
        "FLOWER_PORT": url.rpartition(":")[2],
        "FLOWER_BASIC_AUTH": f"tests:{PASSWORD}",
    }
    before = listeners(stand.redis_url)
    with Program(signalpost("worker", "--role", "flower"), env=environment) as program:

        def hears() -> bool:
            assert program.process.poll() is None, program.output
            return listeners(stand.redis_url) > before

        wait_for(hears, 20)
        yield url


def read(url: str, path: str, user: tuple[str, str] | None = ("tests", PASSWORD)) -> httpx.Response:
    return httpx.get(f"{url}{path}", auth=user, trust_env=False)


def successes(url: str) -> dict[str, dict[str, Any]]:
    """The deliveries that Flower shows as successful."""
    answer = read(url, f"/api/tasks?limit=1000&taskname={DELIVER_TASK}&state=SUCCESS")
    found: dict[str, dict[str, Any]] = answer.json()
    return found


@pytest.mark.parametrize("path", ["/", "/tasks", "/api/tasks", "/api/workers"])
def test_flower_asks_for_its_password(flower: str, path: str) -> None:
    """Without the password, or with another one, nothing is shown."""
    assert read(flower, path, None).status_code == 401
    assert read(flower, path, ("tests", "another")).status_code == 401
    assert read(flower, path).status_code == 200


def test_flower_only_looks_on(stand: Stand, flower: str) -> None:
    """Even with the password no task can be sent from there, and no worker be ended."""
    ops = stand.workers[1]
    for act in (f"task/async-apply/{PRUNE_TASK}", f"worker/shutdown/{ops.node_name}"):
        answer = httpx.post(
            f"{flower}/api/{act}", auth=("tests", PASSWORD), json={}, trust_env=False
        )
        assert answer.status_code == 403
    assert ops.status == "running"


async def test_flower_shows_every_delivery_as_it_ended(stand: Stand, flower: str) -> None:
    """Of sixty deliveries, some of them retried, each ends as a success that says all about it.

    Celery 5.6.3 lost events while it wrote others, so that Flower saw 45 to 51 of 60 successes.
    """
    async with receivers.receiver(Echo(*[503] * 5, 201)) as receiver:
        stand.endpoint("shown", receiver.url)
        found = [
            await stand.producer.enqueue_async(a_signal(n), endpoints=["shown"])
            for n in range(100, 160)
        ]
        try:
            await until(lambda: len(successes(flower)) == len(found), seconds=15)
        except TimeoutError:
            pytest.fail(f"Flower shows {len(successes(flower))} of {len(found)} as successful")
    shown = {each["args"].split()[1].rstrip(","): each for each in successes(flower).values()}
    retried = 0
    for one in found:
        task = shown[str(one.deliveries[0].delivery_id)]
        for text in (task["args"], task["result"]):
            assert all(word in text for word in about(one)), task
        assert "outcome=delivered" in task["result"]
        retried += "attempt=2" in task["result"]
    assert retried == 5
    last = shown[str(found[-1].deliveries[0].delivery_id)]
    page = read(flower, f"/task/{last['uuid']}").text
    assert str(found[-1].signal_id) in page
    nothing_private(stand, json.dumps(successes(flower)) + page)
