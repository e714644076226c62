"""A book in the receiver's own PostgreSQL database, beside the tables of its orders.

Advisory locks, held for the transaction, keep two processes from the same delivery (or ordering
key) without one waiting for the other: the second is told to come again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from signalpost.errors import BookError, ConfigurationError
from signalpost.receiver.book import Book, Busy, Entry, Unavailable

__all__ = ["PostgresBook"]

PlainConnection = psycopg.Connection[tuple[Any, ...]]

_TABLES = """
CREATE TABLE IF NOT EXISTS signalpost_received (
    book text NOT NULL,
    delivery_id uuid NOT NULL,
    body_sha256 bytea NOT NULL,
    signal_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    attempt integer,
    sequence bigint,
    reply text,
    PRIMARY KEY (book, delivery_id)
);
CREATE INDEX IF NOT EXISTS signalpost_received_body ON signalpost_received (book, body_sha256);
CREATE INDEX IF NOT EXISTS signalpost_received_at ON signalpost_received (book, received_at);
CREATE TABLE IF NOT EXISTS signalpost_sequences (
    book text NOT NULL,
    ordering_key text NOT NULL,
    sequence bigint NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (book, ordering_key)
);
"""
_HAS_TABLES = "SELECT to_regclass('signalpost_received'), to_regclass('signalpost_sequences')"
_LOCK_OF_TABLES = 0x7369676E616C  # "signal": one process at a time makes tables
# For this transaction only, so that a pooler's next client finds its own settings. A server told to
# commit lazily would let a 201 be lost with a crash; stricter levels stay.
_BEGIN = (
    "SELECT bool_and(pg_try_advisory_xact_lock(hashtextextended(key, 0))),"
    " set_config('lock_timeout', %s, true),"
    " set_config('synchronous_commit', CASE WHEN current_setting('synchronous_commit')"
    " IN ('off', 'local') THEN 'on' ELSE current_setting('synchronous_commit') END, true)"
    " FROM unnest(%s::text[]) AS key"
)
# A network that swallows everything is noticed within half a minute, not after two hours.
_CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "prepare_threshold": None,  # poolers between us and the server may not know statements
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "fallback_application_name": "signalpost-receiver",
}


class PostgresBook(Book[PlainConnection]):
    """Remembers deliveries in the PostgreSQL database at `address`, where the handler works too.

    Makes its two tables, `signalpost_received` and `signalpost_sequences`, in the connection's
    schema where they are missing. A lost connection is opened anew for the next request.

    Args:
        address: as psycopg takes it: `postgresql://user:password@host/database`.
        name: which endpoint it is for, where several keep their books in one database.
        keep_days: how long a key is remembered; keep it longer than the sender's RETENTION_DAYS,
            since a dead letter can be replayed for that long; at least 1.
        busy_seconds: how long the handler waits for a row that another program has locked; then
            the driver's LockNotAvailable comes out of it, and the sender tries again.

    Raises errors.BookError where the database cannot be used, errors.ConfigurationError for
    arguments that cannot work.
    """

    def __init__(
        self,
        address: str,
        *,
        name: str = "",
        keep_days: float = 90,
        busy_seconds: float = 5,
    ) -> None:
        self._address = address
        # At least 1 ms, for 0 would mean for ever.
        self._lock_timeout = f"{max(1, round(busy_seconds * 1000))}ms"
        self._connection: PlainConnection
        super().__init__(name=name, keep_days=keep_days)

    def _open(self) -> None:
        try:
            self._connection = _connect(self._address)
            try:
                _make_tables(self._connection)
            except BaseException:
                self._connection.close()
                raise
        except psycopg.ProgrammingError as error:
            if error.sqlstate is not None:
                raise BookError(f"the book's tables cannot be made: {error}") from error
            # The driver's words quote the address, which holds a password.
            raise ConfigurationError("the book's address is not one of PostgreSQL") from None
        except psycopg.Error as error:
            raise BookError(f"the book's database cannot be used: {error}") from error

    def _shut(self) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self, entry: Entry) -> Iterator[PlainConnection]:
        connection = self._living()
        keys = [f"delivery {entry.delivery_id}"]
        if entry.by_body:
            keys.append(f"body {entry.body_sha256.hex()}")
        if entry.sequence is not None:
            keys.append(f"order {entry.ordering_key}")
        with connection.transaction():
            locks = [f"signalpost {self.name} {key}" for key in keys]
            begun = connection.execute(_BEGIN, [self._lock_timeout, locks]).fetchone()
            if begun is None or not begun[0]:
                raise Busy
            yield connection

    def _run(self, connection: PlainConnection, statement: str, values: Sequence[Any]) -> Any:
        with connection.cursor(row_factory=tuple_row) as cursor:
            cursor.execute(statement.replace("?", "%s").encode(), values)
            return cursor.fetchone() if cursor.description is not None else None

    def _in_transaction(self, connection: PlainConnection) -> bool:
        return connection.info.transaction_status is not TransactionStatus.IDLE

    def _living(self) -> PlainConnection:
        """The connection, opened anew if the server or the network has ended it."""
        try:
            self._connection.execute("SELECT 1")
        except psycopg.OperationalError:
            self._connection.close()
            try:
                self._connection = _connect(self._address)
            except psycopg.OperationalError as error:
                raise Unavailable(type(error).__name__) from None
        return self._connection


def _connect(address: str) -> PlainConnection:
    connection = psycopg.connect(address, **_CONNECTION)
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    return connection


def _make_tables(connection: PlainConnection) -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_OF_TABLES])
        present = connection.execute(_HAS_TABLES).fetchone()
        # Asked first, since IF NOT EXISTS wants the right to make tables even where none is made.
        if present is None or None in present:
            connection.execute(_TABLES)
