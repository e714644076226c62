"""The receiver's memory: which deliveries it has acted on, kept in SQLite beside the effect itself.

A key is committed in the transaction of the handler's effect, so that neither a crash nor a power
cut can leave one without the other (WAL with synchronous FULL: a commit is on the disk).
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal

from signalpost.core.instants import rfc3339
from signalpost.errors import ConfigurationError

__all__ = ["Book", "Busy", "Entry", "Mark", "Marked", "Reply"]

Standing = Literal["received", "pending_approval", "rejected"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the handler says of a signal it has dealt with; remembered for duplicates.

    `rejected` means that the receiver looked at it and will not act on it: that is an answer too,
    and consumes the key. To refuse a signal without remembering it, raise `Refused`.
    """

    status: Standing = "received"
    message: str = ""
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """What the book keeps of one request.

    `by_body`: also a request with the same body under another key is a duplicate, because the
    signature does not cover the key (the canonical profile).
    """

    delivery_id: str
    body_sha256: bytes
    signal_id: str
    received_at: datetime
    attempt: int | None = None
    sequence: int | None = None
    by_body: bool = False


class Mark(StrEnum):
    """What the book found out about a request."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    """The key is known with another body."""


@dataclass(frozen=True, slots=True)
class Marked:
    """The book's answer; for a duplicate, `reply` is the first one's."""

    mark: Mark
    reply: Reply


class Busy(Exception):
    """The same delivery is being dealt with, or another process holds the book."""


Effect = Callable[[sqlite3.Connection], Reply]

_TABLES = """
CREATE TABLE IF NOT EXISTS signalpost_received (
    delivery_id TEXT PRIMARY KEY,
    body_sha256 BLOB NOT NULL,
    signal_id TEXT NOT NULL,
    received_at TEXT NOT NULL,
    attempt INTEGER,
    sequence INTEGER,
    reply TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS signalpost_received_body ON signalpost_received (body_sha256);
CREATE INDEX IF NOT EXISTS signalpost_received_at ON signalpost_received (received_at);
"""

_FORGET_EVERY = timedelta(hours=1)


class Book:
    """Remembers deliveries in the SQLite file at `path`; one book for each endpoint.

    All its work, the handlers' included, runs on one thread of its own, one after another.

    Args:
        path: the file; made where it is missing. The handler may keep its own tables in it.
        keep_days: how long a key is remembered; keep it longer than the sender's RETENTION_DAYS,
            since a dead letter can be replayed for that long; at least 1.
        busy_seconds: how long to wait for another process that is writing.
    """

    def __init__(self, path: Path | str, *, keep_days: float = 90, busy_seconds: float = 5) -> None:
        if not keep_days >= 1:
            raise ConfigurationError("keep_days must be at least 1, better 90")
        self._keep = timedelta(days=keep_days)
        self._forgotten_at: datetime | None = None
        self._under_way: set[str | bytes] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="signalpost-book")
        try:
            self._connection = self._thread.submit(_open, str(path), busy_seconds).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def enter(self, entry: Entry, effect: Effect) -> Marked:
        """Run `effect` and remember `entry`, both or neither, unless it is remembered already.

        Raises Busy where the same delivery is under way, and whatever `effect` raises; then the
        transaction is undone and the key is free. Cancelling the caller does not stop the effect.
        """
        keys: set[str | bytes] = {entry.delivery_id}
        if entry.by_body:
            keys.add(entry.body_sha256)
        if keys & self._under_way:
            raise Busy
        self._under_way |= keys
        loop = asyncio.get_running_loop()
        work = self._thread.submit(self._enter, entry, effect)

        def finished(_: Future[Marked]) -> None:
            # The keys stay taken for as long as the effect runs, whatever became of the request.
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._under_way.difference_update, keys)

        work.add_done_callback(finished)
        return await asyncio.shield(asyncio.wrap_future(work))

    def close(self) -> None:
        """Wait for what is under way, and close the file."""
        self._thread.submit(self._connection.close)
        self._thread.shutdown(wait=True)

    def _enter(self, entry: Entry, effect: Effect) -> Marked:
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                raise Busy from None
            raise
        try:
            marked = self._mark(connection, entry, effect)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return marked

    def _mark(self, connection: sqlite3.Connection, entry: Entry, effect: Effect) -> Marked:
        self._forget(connection, entry.received_at)
        known = connection.execute(
            "SELECT body_sha256, reply FROM signalpost_received WHERE delivery_id = ?",
            (entry.delivery_id,),
        ).fetchone()
        if known is not None and known[0] != entry.body_sha256:
            return Marked(Mark.CONFLICT, Reply())
        if known is None and entry.by_body:
            known = connection.execute(
                "SELECT body_sha256, reply FROM signalpost_received WHERE body_sha256 = ? LIMIT 1",
                (entry.body_sha256,),
            ).fetchone()
        if known is not None:
            return Marked(Mark.DUPLICATE, _read_reply(known[1]))
        # Before the effect, so that a handler that wrongly commits commits the key with it.
        connection.execute(
            "INSERT INTO signalpost_received VALUES (?, ?, ?, ?, ?, ?, NULL)",
            (
                entry.delivery_id,
                entry.body_sha256,
                entry.signal_id,
                rfc3339(entry.received_at),
                entry.attempt,
                entry.sequence,
            ),
        )
        reply = effect(connection)
        if not connection.in_transaction:
            raise RuntimeError("the handler must neither commit nor roll back")
        connection.execute(
            "UPDATE signalpost_received SET reply = ? WHERE delivery_id = ?",
            (json.dumps(asdict(reply)), entry.delivery_id),
        )
        return Marked(Mark.NEW, reply)

    def _forget(self, connection: sqlite3.Connection, now: datetime) -> None:
        if self._forgotten_at is not None and now - self._forgotten_at < _FORGET_EVERY:
            return
        connection.execute(
            "DELETE FROM signalpost_received WHERE received_at < ?",
            (rfc3339(now - self._keep),),
        )
        self._forgotten_at = now


def _open(path: str, busy_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=busy_seconds, isolation_level=None, check_same_thread=True
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(_TABLES)
    return connection


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _read_reply(text: str | None) -> Reply:
    if text is None:
        return Reply()
    stored = json.loads(text)
    return Reply(stored["status"], stored["message"], tuple(stored["errors"]))
