"""The forty lines that one would write by hand: Celery, one httpx client a process, two commits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import psycopg
from celery import Celery
from celery.signals import worker_process_init

from tests.bench.peers import work

app = Celery("forty_lines", broker=work.REDIS_URL)
app.conf.task_ignore_result = True
held: dict[str, Any] = {}


@worker_process_init.connect
def open_all(**_: object) -> None:
    held["client"] = httpx.Client(timeout=work.TIMEOUT_SECONDS)
    held["connection"] = psycopg.connect(work.DATABASE_URL)


@app.task
def deliver(delivery_id: str) -> None:
    connection = held["connection"]
    url, content, number = connection.execute(work.READ, [delivery_id]).fetchone()
    tried = work.Tried(delivery_id, number)
    try:
        headers = work.signed(delivery_id, url, content)
        tried.code = held["client"].post(url, content=content, headers=headers).status_code
    except httpx.HTTPError as error:
        tried.error = type(error).__name__
    row = tried.row()
    attempt = ("id", "number", "started_at", "seconds", "code", "error")
    connection.execute(work.ATTEMPT, [row[name] for name in attempt])
    connection.commit()
    connection.execute(work.UPDATE, [row["status"], number, delivery_id])
    connection.commit()


def feed(_database_url: str, _redis_url: str) -> work.PeerFeed:
    def publish(ids: Sequence[str]) -> None:
        with app.producer_pool.acquire(block=True) as producer:
            for name in ids:
                deliver.apply_async((name,), producer=producer)

    return work.PeerFeed(publish)
