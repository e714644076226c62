"""Prepared statements: what a process asks often is planned once, where that is safe.

Planning a claim or a record anew costs about as much as running it. Two things must not happen:

- Behind a pooler that lends a server session for one transaction, a statement prepared in one is
  unknown in the next. Such a pooler cannot hide: the process id that it told at the start is of
  its own making, or belongs to another session.
- A plan that was made while the outbox was empty reads tables from end to end as they fill, until
  PostgreSQL analyses them, which may take a minute. So no plan grows older than a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Engine, event, text

__all__ = ["PLAN_SECONDS", "PREPARE_AFTER", "prepare_on"]

PREPARE_AFTER = 2
"""A statement that a connection has run so often is prepared at the next time."""
PLAN_SECONDS = 2.0
"""The greatest age of a plan at the start of a transaction."""

_PLANNED = "signalpost_planned"


def prepare_on(engine: Engine, *, steady: Callable[[], float] = monotonic) -> None:
    """Let an engine's connections prepare what they run often; those behind a pooler do not.

    Args:
        engine: before its first connection. Its driver is psycopg.
        steady: seconds on a clock that only goes forward.
    """

    def connected(connection: Any, record: Any) -> None:
        driver = getattr(connection, "driver_connection", connection)
        if _is_direct(connection, driver):
            driver.prepare_threshold = PREPARE_AFTER
            record.info[_PLANNED] = steady()

    def begun(connection: Connection) -> None:
        planned = connection.info.get(_PLANNED)
        if planned is not None and steady() - planned > PLAN_SECONDS:
            connection.execute(text("DISCARD PLANS"))
            connection.info[_PLANNED] = steady()

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _is_direct(connection: Any, driver: Any) -> bool:
    cursor = connection.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    (own,) = cursor.fetchone()
    cursor.close()
    connection.rollback()
    return bool(own == driver.info.backend_pid)
