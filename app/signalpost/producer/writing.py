"""One transaction with a deadline that holds whatever the database does.

A statement that waits cannot be cancelled by a server that does not answer. So the caller stops
waiting at the deadline, and the connection is cut under the statement. What decides the error is
whether COMMIT had been sent: before it, nothing was written; after it, nobody can know.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from signalpost.errors import (
    DatabaseUnavailable,
    EnqueueError,
    EnqueueTimeout,
    EnqueueUnknown,
    SchemaError,
)

__all__ = ["Attempt", "write"]

T = TypeVar("T")

# The server gives up waiting for a lock a little before we give up on the server, so that the
# connection need not be cut.
LOCK_MARGIN_SECONDS = 0.1
LONGEST_SECONDS = 86400.0
_TRIES = 3


class Attempt:
    """What a caller and the writing task both know: the deadline, and who was first at the end.

    `timeout` is in seconds. Raises ValueError where it is none.
    """

    def __init__(self, timeout: float) -> None:
        if not 0 < timeout <= LONGEST_SECONDS:
            raise ValueError("timeout must be seconds above 0")
        self.timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._lock = threading.Lock()
        self._committing = False
        self._given_up = False
        self._task: asyncio.Task[Any] | None = None
        self._driver: Any = None

    @property
    def remaining(self) -> float:
        """Seconds to the deadline, not below 0."""
        return max(0.0, self._deadline - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether the caller waits no more."""
        return self._given_up

    @property
    def lock_timeout(self) -> float:
        """Seconds that the server may wait for a lock."""
        return max(self.remaining - LOCK_MARGIN_SECONDS, self.remaining / 2)

    def commit_begins(self) -> bool:
        """Claim the right to send COMMIT; False if the caller has given up before."""
        with self._lock:
            self._committing = not self._given_up
            return self._committing

    def give_up(self) -> EnqueueError:
        """Stop waiting; the error that says what became of the signal."""
        with self._lock:
            self._given_up = True
            if self._committing:
                return _unknown(f"PostgreSQL did not confirm the COMMIT within {self.timeout:g} s")
        return EnqueueTimeout(
            f"PostgreSQL was not done within {self.timeout:g} s and nothing was written; "
            "call again with the same signal"
        )

    def runs_as(self, task: asyncio.Task[Any] | None) -> None:
        """Note the task that is to be cancelled while it has no connection."""
        self._task = task

    def uses(self, connection: AsyncConnection | None) -> None:
        """Note the connection that is to be cut; None: it is given back."""
        sync = None if connection is None else connection.sync_connection
        self._driver = None if sync is None else sync.connection.driver_connection

    def cut(self) -> None:
        """End the task, whatever it waits for. Runs on the task's loop."""
        if self._driver is None:
            if self._task is not None:
                self._task.cancel()
            return
        with suppress(Exception):  # a connection that is closed already needs no cutting
            descriptor = os.dup(self._driver.pgconn.socket)
            with socket.socket(fileno=descriptor) as wire:
                wire.shutdown(socket.SHUT_RDWR)


async def write(engine: AsyncEngine, work: Callable[[Connection, float], T], attempt: Attempt) -> T:
    """What `work` returns, once it is committed. It gets a connection and a lock timeout (seconds).

    Work is done again where the server broke a deadlock or a pooled connection was stale. Raises
    what `work` raises (nothing is written then) and the errors of enqueueing.
    """
    attempt.runs_as(asyncio.current_task())
    trouble: EnqueueError = DatabaseUnavailable()
    for _ in range(_TRIES):
        try:
            connection = await engine.connect()
        except SQLAlchemyError as error:
            raise _unreachable(error) from None
        attempt.uses(connection)
        try:
            done = await connection.run_sync(lambda sync: work(sync, attempt.lock_timeout))
            if not attempt.commit_begins():
                raise attempt.give_up()
            await _commit(connection)
            return done
        except DBAPIError as error:
            trouble = _refused(error, attempt)
            if attempt.over or not _worth_another_try(error):
                raise trouble from None
        finally:
            await _give_back(connection)
            attempt.uses(None)
    raise trouble


async def _commit(connection: AsyncConnection) -> None:
    try:
        await connection.commit()
    except SQLAlchemyError:
        raise _unknown("the connection broke while committing") from None


def _unknown(what: str) -> EnqueueUnknown:
    return EnqueueUnknown(
        f"{what}, so the signal may or may not be enqueued; call again with the same signal: "
        "it is recognised and never enqueued twice"
    )


async def _give_back(connection: AsyncConnection) -> None:
    # A connection that cannot even roll back is thrown away by the pool, and the error is known.
    with suppress(SQLAlchemyError, OSError):
        await connection.close()


def _worth_another_try(error: DBAPIError) -> bool:
    return error.connection_invalidated or _sqlstate(error) in ("40P01", "40001")


def _refused(error: DBAPIError, attempt: Attempt) -> EnqueueError:
    state = _sqlstate(error)
    if error.connection_invalidated:
        return DatabaseUnavailable(
            "the connection to PostgreSQL was lost before anything was written; "
            "call again with the same signal"
        )
    if state == "55P03":
        return EnqueueTimeout(
            f"another transaction kept the same signal waiting for {attempt.timeout:g} s and "
            "nothing was written; call again with the same signal"
        )
    if state == "25006":
        return DatabaseUnavailable(
            "PostgreSQL takes no writes (a standby?) and nothing was written; check DATABASE_URL"
        )
    if state in ("42P01", "3F000", "42703"):
        return SchemaError()
    # The server's own text may quote values of the row.
    return EnqueueError(
        f"PostgreSQL refused the signal (SQLSTATE {state or 'unknown'}) and nothing was written"
    )


def _sqlstate(error: DBAPIError) -> str | None:
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


def _unreachable(error: SQLAlchemyError) -> DatabaseUnavailable:
    cause = str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
    first_line = cause.strip().splitlines()[0] if cause.strip() else "no reason given"
    return DatabaseUnavailable(
        f"PostgreSQL cannot be reached ({first_line}) and nothing was written; check DATABASE_URL "
        "and the server, then call again with the same signal"
    )
