"""A book in a SQLite file, which may be the handler's own.

WAL with synchronous FULL: what is committed is on the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from signalpost.errors import BookError
from signalpost.receiver.book import Book, Busy, Entry

__all__ = ["SqliteBook"]

_TABLES = """
CREATE TABLE IF NOT EXISTS signalpost_received (
    book TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    body_sha256 BLOB NOT NULL,
    signal_id TEXT NOT NULL,
    received_at TEXT NOT NULL,
    attempt INTEGER,
    sequence INTEGER,
    reply TEXT,
    PRIMARY KEY (book, delivery_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS signalpost_received_body ON signalpost_received (book, body_sha256);
CREATE INDEX IF NOT EXISTS signalpost_received_at ON signalpost_received (book, received_at);
CREATE TABLE IF NOT EXISTS signalpost_sequences (
    book TEXT NOT NULL,
    ordering_key TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    received_at TEXT NOT NULL,
    PRIMARY KEY (book, ordering_key)
) WITHOUT ROWID;
"""


class SqliteBook(Book[sqlite3.Connection]):
    """Remembers deliveries in the SQLite file at `path`.

    Args:
        path: the file; made where it is missing. The handler may keep its own tables in it.
        name: which endpoint it is for, where several keep their books in one file.
        keep_days: how long a key is remembered; keep it longer than the sender's RETENTION_DAYS,
            since a dead letter can be replayed for that long; at least 1.
        busy_seconds: how long to wait for another process that is writing.

    Raises errors.BookError where the file cannot be used, errors.ConfigurationError for keep_days.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        name: str = "",
        keep_days: float = 90,
        busy_seconds: float = 5,
    ) -> None:
        self._path = str(path)
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection
        super().__init__(name=name, keep_days=keep_days)

    def _open(self) -> None:
        try:
            self._connection = sqlite3.connect(
                self._path, timeout=self._busy_seconds, isolation_level=None
            )
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA foreign_keys = ON")
                self._connection.executescript(_TABLES)
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise BookError(f"the book {self._path} cannot be used: {error}") from error

    def _shut(self) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self, entry: Entry) -> Iterator[sqlite3.Connection]:
        del entry  # There is one writer at a time, whatever it writes.
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if _is_busy(error):
                raise Busy from None
            raise
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _run(self, connection: sqlite3.Connection, statement: str, values: Sequence[Any]) -> Any:
        cursor = connection.cursor()
        cursor.row_factory = None  # The handler may have set another one for itself.
        return cursor.execute(statement, tuple(values)).fetchone()

    def _in_transaction(self, connection: sqlite3.Connection) -> bool:
        return connection.in_transaction


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
