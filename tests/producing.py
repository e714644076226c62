"""Signals and producers for tests, and what a producer left in Redis."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from redis import Redis
from sqlalchemy import create_engine, text

from signalpost import Producer, Signal
from signalpost.repository.endpoints import NewEndpoint, add_endpoint
from signalpost.secretbox import SecretBox
from signalpost.settings import Settings
from tests.databases import cloned

SECRET = "correct horse battery staple"
REASON = "a reason that nobody else may read"
PRICE = "189.4567"
PRODUCER_ID = "tests"


def make_signal(**values: Any) -> Signal:
    """A signal of its own, unless its id is given."""
    return Signal(**{**fields(), **values})


def fields() -> dict[str, Any]:
    """What makes a signal, as a strategy would write it down."""
    return {
        "instrument": "AAPL",
        "side": "buy",
        "entry_price": PRICE,
        "stop_loss": "184.00",
        "take_profit": "199.00",
        "confidence": "0.82",
        "reason": REASON,
        "timestamp": "2026-03-02T21:00:00Z",
        "id": uuid4(),
    }


@contextmanager
def outbox(server: str, template: str, *endpoints: str) -> Iterator[str]:
    """The address of a database with these endpoints, for as long as the block lasts."""
    with cloned(server, template) as url:
        add_endpoints(url, *endpoints)
        yield url


def add_endpoints(url: str, *names: str) -> None:
    """Endpoints that are described well, in the database at `url`."""
    settings, box = Settings(database_url=url), SecretBox([SecretBox.new_key()])
    engine = create_engine(settings.database_url)
    with engine.begin() as connection:
        for name in names:
            new = NewEndpoint(name=name, url=f"https://{name}.example/signals", secret=SECRET)
            add_endpoint(connection, new, settings, box, actor="tests")
    engine.dispose()


@contextmanager
def producer_on(database_url: str, redis_url: str | None = None) -> Iterator[Producer]:
    """A producer that reads no environment, closed at the end."""
    with Producer(database_url, redis_url, producer_id=PRODUCER_ID, environ={}) as producer:
        yield producer


def messages(redis_url: str, queue: str) -> list[dict[str, Any]]:
    """The task messages in a queue, oldest first: task, args, and what Flower shows of them."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        raw = client.lrange(queue, 0, -1)
    found = []
    for one in reversed(raw):
        message = json.loads(one)
        args = json.loads(base64.b64decode(message["body"]))[0]
        headers = message["headers"]
        found.append({"task": headers["task"], "args": args, "shown": headers["argsrepr"]})
    return found


def stored_ids(database_url: str) -> set[str]:
    """The ids of all signals in the outbox."""
    engine = create_engine(Settings(database_url=database_url).database_url)
    with engine.connect() as connection:
        ids = {str(row.id) for row in connection.execute(text("SELECT id FROM signalpost.signals"))}
    engine.dispose()
    return ids
