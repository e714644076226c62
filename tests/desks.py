"""A receiver of the kit with a table of orders as its effect, on either kind of book."""

from __future__ import annotations

import sqlite3
import threading
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg

from signalpost.core.signals import Signal
from signalpost.core.signing import Outgoing, secret_bytes, sign
from signalpost.receiver import Book, PostgresBook, Received, Receiver, Reply, Seen, SqliteBook

SECRET = "correct horse battery staple"
URL = "https://desk.example/hooks/signals"
NOW = datetime(2026, 3, 2, 12, 0, 0, 250000, UTC)


def body_of(instrument: str = "AAPL", **changes: Any) -> bytes:
    """The bytes of a signal that breaks no rule."""
    signal = Signal(
        instrument=instrument,
        side="buy",
        entry_price="101.10",
        stop_loss="99.5",
        take_profit="110",
        confidence="0.8",
        reason="crossed the line",
        timestamp=NOW,
        **changes,
    )
    return signal.identified("tests").body()


def outgoing(**changes: Any) -> Outgoing:
    """One attempt of a new delivery, made at `NOW`."""
    facts = Outgoing(
        method="POST",
        authority="desk.example",
        raw_path="/hooks/signals",
        query="",
        body=body_of(),
        producer_id="tests",
        delivery_id=str(uuid4()),
        attempt=1,
        expires_at=NOW + timedelta(minutes=10),
        replayed=False,
        sequence=None,
        timestamp=NOW,
    )
    return replace(facts, **changes)


def signed(facts: Outgoing, secret: str = SECRET) -> dict[str, str]:
    """The attempt's headers."""
    return sign(facts, keys=[secret_bytes(secret)], key_ids=["desk:1"])


async def post(
    app: Any, facts: Outgoing, headers: dict[str, str] | None = None, path: str = "/hooks/signals"
) -> httpx.Response:
    """What the app answers to the attempt."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1") as client:
        return await client.post(
            path, content=facts.body, headers=signed(facts) if headers is None else headers
        )


class Desk(ABC):
    """A receiver whose handler writes an order, and does on top what a test tells it to."""

    def __init__(self) -> None:
        self.book: Book[Any] = self.open_book()
        self.now = NOW
        self.seen: list[Seen] = []
        self.given: list[Received] = []
        self.release = threading.Event()
        self.release.set()
        self.entered = threading.Event()
        self.reply: Reply | None = None
        self.error: Exception | None = None

    @abstractmethod
    def open_book(self, **options: Any) -> Book[Any]:
        """A book at this desk's place, such as another process would open."""

    @abstractmethod
    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Look into what is committed."""

    def handle(self, connection: Any, received: Received) -> Reply | None:
        order = f"('{received.delivery_id}', '{received.signal.instrument}')"
        connection.execute(f"INSERT INTO orders VALUES {order}")
        self.given.append(received)
        self.entered.set()
        self.release.wait(10)
        if self.error is not None:
            raise self.error
        return self.reply

    def app(self, **changes: Any) -> Receiver[Any]:
        arguments: dict[str, Any] = {
            "secrets": [SECRET],
            "public_url": URL,
            "book": self.book,
            "handler": self.handle,
            "clock": lambda: self.now,
            "observer": self.seen.append,
        }
        return Receiver(**{**arguments, **changes})

    def orders(self) -> int:
        return int(self.ask("SELECT count(*) FROM orders")[0][0])

    def close(self) -> None:
        self.release.set()
        self.book.close()


class SqliteDesk(Desk):
    """Book and orders in one SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "book.sqlite"
        with closing(sqlite3.connect(self.file)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS orders (delivery_id, instrument)")
        super().__init__()

    def open_book(self, **options: Any) -> SqliteBook:
        return SqliteBook(self.file, **options)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.file)) as connection:
            return connection.execute(query).fetchall()


class PostgresDesk(Desk):
    """Book and orders in one PostgreSQL database."""

    def __init__(self, address: str) -> None:
        self.address = address
        with psycopg.connect(address) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS orders (delivery_id uuid, instrument text)"
            )
        super().__init__()

    def open_book(self, **options: Any) -> PostgresBook:
        return PostgresBook(self.address, **options)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.address) as connection:
            return connection.execute(query.encode()).fetchall()
