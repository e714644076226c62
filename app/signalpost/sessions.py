"""Sessions: none holds locks for ever, and on busy ones what is asked often is planned once.

Planning a claim or a record anew costs about as much as running it. Two things must not happen:

- Behind a pooler that lends a server session for one transaction, a statement prepared in one is
  unknown in the next. Such a pooler cannot hide: the process id that it told at the start is of
  its own making, or belongs to another session.
- A plan that was made while the outbox was empty reads tables from end to end as they fill, until
  PostgreSQL analyses them, which may take a minute. So no plan grows older than a few seconds.

And a machine that vanishes in the middle of a transaction says nothing: its server session would
hold its locks, and with them other processes' deliveries, until TCP gives up, hours later.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Engine, event, text

__all__ = [
    "IDLE_SECONDS",
    "PLAN_SECONDS",
    "PREPARE_AFTER",
    "is_lock_timeout",
    "limit_idleness",
    "settle_on",
]

PREPARE_AFTER = 2
"""A statement that a connection has run so often is prepared at the next time."""
PLAN_SECONDS = 2.0
"""The greatest age of a plan at the start of a transaction."""

IDLE_SECONDS = 10
"""The server ends a session of which it hears nothing for so long within a transaction."""

_PLANNED = "signalpost_planned"


def limit_idleness(engine: Engine) -> None:
    """Let the server end an engine's sessions that fall silent within a transaction.

    Args:
        engine: before its first connection. Its driver is psycopg. Sessions behind a pooler stay
            as they are.
    """

    def connected(connection: Any, _: object) -> None:
        _settled(connection, getattr(connection, "driver_connection", connection))

    event.listen(engine, "connect", connected)


def settle_on(engine: Engine, *, steady: Callable[[], float] = monotonic) -> None:
    """Settle each of an engine's sessions as it begins; those behind a pooler stay as they are.

    Args:
        engine: before its first connection. Its driver is psycopg.
        steady: seconds on a clock that only goes forward.
    """

    def connected(connection: Any, record: Any) -> None:
        driver = getattr(connection, "driver_connection", connection)
        if _settled(connection, driver):
            driver.prepare_threshold = PREPARE_AFTER
            record.info[_PLANNED] = steady()

    def begun(connection: Connection) -> None:
        planned = connection.info.get(_PLANNED)
        if planned is not None and steady() - planned > PLAN_SECONDS:
            connection.execute(text("DISCARD PLANS"))
            connection.info[_PLANNED] = steady()

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def is_lock_timeout(trouble: Exception) -> bool:
    """Whether the database gave up waiting for a lock, as `lock_timeout` asks."""
    # https://www.postgresql.org/docs/current/errcodes-appendix.html: lock_not_available
    return getattr(getattr(trouble, "orig", None), "sqlstate", None) == "55P03"


def _settled(connection: Any, driver: Any) -> bool:
    """Whether the session is ours alone; if so, it has been given its limit."""
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    direct = bool(cursor.fetchone()[0] == driver.info.backend_pid)
    if direct:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")
    cursor.close()
    connection.autocommit = False
    return direct
