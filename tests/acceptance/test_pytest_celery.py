from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from pytest_celery import (  # type: ignore[import-untyped]  # it ships no types
    CeleryBrokerCluster,
    CeleryWorkerCluster,
)
from sqlalchemy import Engine

from signalpost import broker, database
from tests import receivers, rows
from tests.acceptance.celery_cluster import (
    SignalpostSetup,
    SignalpostWorker,
    ValkeyBroker,
    worker_settings,
)
from tests.acceptance.task_events import TaskEvents
from tests.databases import cloned
from tests.engines import SEALED

TASKS = {
    broker.DELIVER_TASK: "deliver",
    broker.DRAIN_TASK: "deliver",
    broker.ALERT_TASK: "ops",
    broker.PRUNE_TASK: "ops",
}
"""Which role's node each task belongs to."""


@pytest.fixture(scope="module")
def shared_database_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    with cloned(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture(scope="module")
def celery_broker_cluster(
    server_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CeleryBrokerCluster]:
    node = ValkeyBroker(tmp_path_factory.mktemp("broker"))
    cluster = CeleryBrokerCluster(node)
    yield cluster
    cluster.teardown()
    node.teardown()


@pytest.fixture(scope="module")
def celery_backend_cluster() -> None:
    """None: signalpost keeps no results in Celery, the outbox has them."""


@pytest.fixture(scope="module")
def celery_worker_cluster(
    celery_broker_cluster: CeleryBrokerCluster, shared_database_url: str
) -> Iterator[CeleryWorkerCluster]:
    settings = worker_settings(shared_database_url, celery_broker_cluster[0].url)
    nodes = [SignalpostWorker("deliver", settings), SignalpostWorker("ops", settings)]
    cluster = CeleryWorkerCluster(*nodes)
    yield cluster
    cluster.teardown()
    for node in nodes:
        node.teardown()


@pytest.fixture
def celery_setup_cls() -> type[SignalpostSetup]:
    return SignalpostSetup


@pytest.fixture
def nodes(celery_setup: SignalpostSetup) -> dict[str, str]:
    """The name of each node by its role, once all of them are ready."""
    assert celery_setup.ready(docker=True)
    return {node.role: node.hostname() for node in celery_setup.worker_cluster}


@pytest.fixture
def events(celery_setup: SignalpostSetup, nodes: dict[str, str]) -> Iterator[TaskEvents]:
    with TaskEvents(celery_setup.broker.url) as events:
        yield events


@pytest.fixture
def outbox(shared_database_url: str) -> Iterator[Engine]:
    engine = database.sync_engine(shared_database_url)
    yield engine
    engine.dispose()


def test_the_setup_is_ready(celery_setup: SignalpostSetup, nodes: dict[str, str]) -> None:
    """A broker and two workers run as real processes, and each worker answers to a ping."""
    assert len(celery_setup) == 3
    answers = [node for answer in celery_setup.app.control.ping(timeout=1) for node in answer]
    assert sorted(answers) == sorted(nodes.values())


def test_each_node_consumes_its_queues_and_knows_its_tasks(
    celery_setup: SignalpostSetup, nodes: dict[str, str]
) -> None:
    """An inspection shows deliveries on one node, alerts and upkeep on the other, nothing else."""
    inspect = celery_setup.app.control.inspect(timeout=1, limit=2)
    queues = {
        node: {each["name"] for each in found} for node, found in inspect.active_queues().items()
    }
    assert queues == {nodes["deliver"]: {"deliver", "drain"}, nodes["ops"]: {"alerts", "upkeep"}}
    for registered in inspect.registered().values():
        assert {task for task in registered if task.startswith("signalpost.")} == set(TASKS)


async def test_any_celery_client_can_have_a_delivery_sent(
    celery_setup: SignalpostSetup, nodes: dict[str, str], events: TaskEvents, outbox: Engine
) -> None:
    """A message that names a delivery makes a worker send it and record that at once."""
    async with receivers.receiver() as receiver:
        with outbox.begin() as connection:
            endpoint_id = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            delivery_id = rows.add_delivery(connection, endpoint_id=endpoint_id)
        sent = celery_setup.app.send_task(broker.DELIVER_TASK, [str(delivery_id)])
        await asyncio.to_thread(events.until, lambda: events.of("succeeded", sent.id))
    (done,) = events.of("succeeded", sent.id)
    assert done["hostname"] == nodes["deliver"]
    assert f"delivery={delivery_id}" in done["result"]
    assert "outcome=delivered" in done["result"]
    assert [seen.delivery_id for seen in receiver.seen] == [str(delivery_id)]
    with outbox.connect() as connection:
        assert rows.delivery(connection, delivery_id)["status"] == "delivered"


def test_a_message_reaches_only_the_node_of_its_queue(
    celery_setup: SignalpostSetup, nodes: dict[str, str], events: TaskEvents
) -> None:
    """Of a message on each of the four queues one node hears, once, and it is the right one."""
    arguments = {broker.DELIVER_TASK: [str(uuid4())], broker.ALERT_TASK: [0]}
    sent = {celery_setup.app.send_task(task, arguments.get(task, [])).id: task for task in TASKS}
    events.until(lambda: len(events.of("succeeded")) == len(TASKS))
    for kind in ("received", "started", "succeeded"):
        heard = {sent[event["uuid"]]: event["hostname"] for event in events.of(kind)}
        assert heard == {task: nodes[role] for task, role in TASKS.items()}
        assert len(events.of(kind)) == len(TASKS)


async def test_a_worker_killed_and_started_again_by_the_setup_consumes_again(
    celery_setup: SignalpostSetup, nodes: dict[str, str], events: TaskEvents
) -> None:
    """Killing and restarting a node by pytest-celery's own calls gives a new node in its place."""
    worker = celery_setup.worker
    worker.kill()
    sent = celery_setup.app.send_task(broker.DELIVER_TASK, [str(uuid4())])
    worker.restart()
    events.until(lambda: events.of("succeeded", sent.id))
    (done,) = events.of("succeeded", sent.id)
    assert done["hostname"] == worker.hostname() != nodes["deliver"]
