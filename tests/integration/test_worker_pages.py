"""What real workers serve on their metrics ports, and when they say that they are not well."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from signalpost.cli.roles import celery_argv
from signalpost.embedded.launching import free_port
from tests import receivers, rows
from tests.acceptance.celery_cluster import worker_settings
from tests.engines import SEALED
from tests.processes import Program, free_ports, signalpost, wait_for
from tests.proxy import Proxy
from tests.waiting import counts, until

ROOT = Path(__file__).parents[2]


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def troubles(port: int) -> list[str]:
    found: list[str] = json.loads(get(port, "/healthz")[1])["troubles"]
    return found


def samples(port: int) -> dict[tuple[str, ...], float]:
    status, page = get(port, "/metrics")
    assert status == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def test_each_worker_serves_its_figures(
    engine: Engine, database_url: str, redis_url: str
) -> None:
    """A deliver worker counts its attempts, the ops worker the alerts, and it knows the outbox."""
    base = free_ports(2)
    settings = worker_settings(database_url, redis_url, METRICS_PORT=str(base), MAX_RETRIES="1")
    with (
        Program(signalpost("worker", "--role", "ops"), env=settings) as ops,
        Program(signalpost("worker"), env={**settings, "PROCESS_INDEX": "1"}) as deliver,
    ):
        deliver.wait_for_line("ready")
        ops.wait_for_line("ready")
        async with receivers.receiver(receivers.status(201, 503)) as receiver:
            with engine.begin() as connection:
                endpoint = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
                for _ in range(2):
                    rows.add_delivery(connection, endpoint_id=endpoint)
            await until(lambda: counts(engine) == {"delivered": 1, "dead": 1})
        await until(lambda: samples(base)["alerts_sent_total",] == 1, seconds=20)
        await until(lambda: samples(base)["signalpost_deliver_workers",] == 1)
        sent, known = samples(base + 1), samples(base)
        assert [troubles(base), troubles(base + 1)] == [[], []]
        await asyncio.to_thread(deliver.end)
        with engine.begin() as connection:
            due = rows.database_now(connection) - timedelta(seconds=30)
            rows.add_delivery(connection, endpoint_id=endpoint, next_attempt_at=due)
        await until(lambda: get(base, "/healthz")[0] == 503)
        assert "1 deliveries are overdue" in str(troubles(base))
    assert sent["signals_posted_total", "201", "delivered"] == 1
    assert sent["signals_posted_total", "503", "retry"] == 2
    assert sent["retries_total", "deliver"] == 1
    assert sent["signal_post_duration_seconds_count",] == 3
    assert sent["signal_acceptance_seconds_count",] == 1
    assert sent["signalpost_in_flight",] == 0
    assert known["signalpost_deliveries", "dead"] == 1
    assert known["signalpost_finished_last_hour", "delivered"] == 1
    assert known["signalpost_overdue",] == 0
    assert known["signalpost_deliver_workers",] == 1
    assert known["signalpost_queue_messages", "deliver"] == 0
    assert (known["signalpost_database_up",], known["signalpost_redis_up",]) == (1, 1)


def test_a_used_metrics_port_ends_the_worker(database_url: str, redis_url: str) -> None:
    """One line says which port and what to do, and the exit code is not 0."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = worker_settings(database_url, redis_url, METRICS_PORT=str(port))
        # The `worker` command looks before it becomes Celery; plain Celery must be refused too.
        with Program(celery_argv("deliver"), env=settings) as worker:
            worker.wait_for_line(f"signalpost: the metrics port {port} is in use; choose another")
            assert worker.wait() == 1
    assert "Traceback" not in worker.output


def test_a_consumer_that_hears_nothing_ends_its_process(
    engine: Engine, database_url: str, redis_url: str
) -> None:
    """Redis answers everybody but the consumer: its worker says so, and ends to be restarted."""
    deaf = False

    def watch(data: bytes) -> str:
        return "hold" if deaf and b"BRPOP" in data else "pass"

    port = free_port()
    argv = [
        "tests.integration.soon_stuck_worker" if word == "signalpost_worker.celery" else word
        for word in celery_argv("ops")
    ]
    with Proxy(redis_url, watch) as proxy:
        settings = worker_settings(database_url, proxy.url, METRICS_PORT=str(port))
        with Program(argv, env=settings, cwd=ROOT) as worker:
            worker.wait_for_line("ready")
            wait_for(lambda: troubles(port) == [])
            deaf = True
            wait_for(lambda: "the consumer has heard nothing" in str(troubles(port)))
            worker.wait_for_line("this process ends, to be started again")
            assert worker.wait() == 1
