"""The Celery app as a worker's settings make it, and the ends of a worker that has lost a part."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as Disconnected
from sqlalchemy import Engine

from signalpost.broker import Broker
from signalpost.cli.roles import celery_argv, flower_environment
from signalpost.embedded.launching import free_port
from signalpost.settings import Settings, load_settings
from signalpost.upkeep import BATCH, prune
from signalpost_worker.assembly import create_app
from signalpost_worker.runtime import in_background
from tests import receivers, rows
from tests.acceptance.celery_cluster import worker_settings
from tests.engines import SEALED
from tests.processes import Program, signalpost
from tests.tls_proxy import Secured, secured

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tls(redis_url: str, tmp_path: Path) -> Iterator[Secured]:
    with secured(redis_url, tmp_path) as found:
        yield found


def settings_of(**variables: str) -> Settings:
    return load_settings({"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none", **variables})


def ping_as_consumer(settings: Settings) -> bool:
    """Whether Redis answers over the connection that a worker takes its messages from."""
    with create_app(settings).connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=5)
        channel: Any = connection.default_channel
        return bool(channel.client.ping())


def test_deletion_keeps_up_with_a_thousand_deliveries_a_second() -> None:
    """All runs of an hour together may delete as many as a thousand deliveries a second make."""
    schedule = create_app(settings_of()).conf.beat_schedule["prune"]["schedule"]
    most_batches = inspect.signature(prune).parameters["most_batches"].default

    assert len(schedule.hour) == 24
    assert len(schedule.minute) * most_batches * BATCH >= 1000 * 3600


def test_a_redis_that_its_authority_vouches_for_is_used(tls: Secured) -> None:
    """With REDIS_CA_FILE both the consumer and the announcing side talk to a Redis behind TLS."""
    settings = settings_of(REDIS_URL=tls.url, REDIS_CA_FILE=str(tls.ca_file))
    assert ping_as_consumer(settings)
    broker = Broker(settings.redis_url)
    assert broker.ring()
    broker.close()


def test_a_redis_that_nobody_vouches_for_is_refused(tls: Secured) -> None:
    """A certificate of an unknown authority ends the handshake: no password is sent to it."""
    settings = settings_of(REDIS_URL=tls.url)
    with pytest.raises((OperationalError, Disconnected), match="CERTIFICATE_VERIFY_FAILED"):
        ping_as_consumer(settings)
    broker = Broker(settings.redis_url)
    assert not broker.ring()
    broker.close()


def test_a_redis_of_another_name_is_refused(tls: Secured) -> None:
    """The certificate must be the one of the host that was asked for."""
    url = tls.url.replace("@localhost:", "@127.0.0.1:")
    settings = settings_of(REDIS_URL=url, REDIS_CA_FILE=str(tls.ca_file))
    with pytest.raises((OperationalError, Disconnected), match="CERTIFICATE_VERIFY_FAILED"):
        ping_as_consumer(settings)


READY = """
import gc
from celery.signals import worker_ready
from signalpost.settings import load_settings
from signalpost_worker.assembly import create_app
create_app(load_settings({"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}))
loaded = len(gc.get_objects())
worker_ready.send(sender=None)
print(len(gc.get_objects()) / loaded, gc.get_threshold()[0] >= 10_000)
"""


def test_what_a_ready_worker_has_loaded_costs_no_pass_of_the_collector() -> None:
    """Else each full pass stops the sending for tens of milliseconds."""
    argv = [sys.executable, "-c", READY]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    left, seldom = told.stdout.split()
    assert float(left) < 0.05
    assert seldom == "True"


def test_without_tls_nothing_is_checked(redis_url: str) -> None:
    """A plain Redis is used as it is, with a file of certificates set or not."""
    assert ping_as_consumer(settings_of(REDIS_URL=redis_url))
    assert create_app(settings_of(REDIS_URL=redis_url)).conf.broker_use_ssl is None


def test_the_tasks_are_of_one_app_alone() -> None:
    """Another Celery app of the process, made before or after, does not take them over."""
    create_app(settings_of())
    other = Celery("other", set_as_current=False)
    other.finalize()
    create_app(settings_of()).finalize()
    assert [name for name in other.tasks if name.startswith("signalpost")] == []


def test_flower_ends_at_the_worst_moment(redis_url: str, tmp_path: Path) -> None:
    """Told to end while it starts a pool's thread, Flower ends in order; it would wait for ever."""
    variables = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(ROOT),
    }
    where = flower_environment("me", "apassword", port=free_port())
    argv = [sys.executable, "-m", "tests.integration.ended_flower"]
    with Program(argv, env={**variables, **where}, cwd=tmp_path) as flower:
        flower.wait_for_line("told to end", 60)
        assert flower.wait(30) == 0, flower.output
    assert "Traceback" not in flower.output


def test_alerts_at_the_very_end_are_left_to_the_ops_worker() -> None:
    """What is announced after the process has begun to close its threads is no error."""
    told: list[Sequence[int]] = []

    def announce(alert_ids: Sequence[int]) -> bool:
        told.append(alert_ids)
        return True

    executor = ThreadPoolExecutor(1)
    later: Callable[[Sequence[int]], None] = in_background(executor, announce)
    later([1])
    executor.shutdown()
    later([2])
    assert told == [[1]]


def test_a_worker_whose_engine_dies_ends_with_an_error(database_url: str, redis_url: str) -> None:
    """The process ends by itself, in order, and its exit code tells a supervisor to start it."""
    argv = [
        "tests.integration.dying_worker" if word == "signalpost_worker.celery" else word
        for word in celery_argv("deliver")
    ]
    environment = worker_settings(database_url, redis_url)
    with Program(argv, env=environment, cwd=ROOT) as program:
        program.wait_for_line("the engine has ended error=SystemExit")
        assert program.wait() == 1
    assert "Traceback" not in program.output


async def test_asking_a_worker_twice_to_end_breaks_nothing_off(
    engine: Engine, database_url: str, redis_url: str
) -> None:
    """A second SIGTERM changes nothing: the request under way is answered and recorded."""
    gate, answer = receivers.gated()

    with Program(signalpost("worker"), env=worker_settings(database_url, redis_url)) as program:
        async with receivers.receiver(answer) as receiver:
            with engine.begin() as connection:
                endpoint = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
                delivery_id = rows.add_delivery(connection, endpoint_id=endpoint)
            await receiver.wait_for(1, seconds=40)  # the worker has to start first
            for _ in range(2):
                seen = len(program.lines)
                program.send(signal.SIGTERM)
                await asyncio.to_thread(program.wait_for_line, "Warm shutdown", after=seen)
            gate.set()
            assert await asyncio.to_thread(program.wait) == 0
    with engine.connect() as connection:
        assert rows.delivery(connection, delivery_id)["status"] == "delivered"
        assert len(rows.attempts(connection, delivery_id)) == 1
