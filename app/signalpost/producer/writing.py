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

from signalpost.errors import DatabaseUnavailable, EnqueueError, EnqueueTimeout
from signalpost.producer.refusals import refused, unknown, unreachable, worth_another_try

__all__ = ["Attempt", "write"]

T = TypeVar("T")

# The server gives up waiting for a lock a little before we give up on the server, so that the
# connection need not be cut.
LOCK_MARGIN_SECONDS = 0.1
LONGEST_SECONDS = 86400.0
_TRIES = 3


class Attempt:
    """What a caller and the writing task both know: the deadline, and who was first at the end.

    `timeout` is in seconds, `what` names in errors what is written. Raises ValueError where the
    timeout is none.
    """

    def __init__(self, timeout: float, what: str = "signal") -> None:
        if not 0 < timeout <= LONGEST_SECONDS:
            raise ValueError("timeout must be seconds above 0")
        self.timeout = timeout
        self.what = what
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

    def give_up(self, when: str | None = None) -> EnqueueError:
        """Stop waiting; the error that says what became of the signal.

        `when`: in words, where it is not the deadline.
        """
        when = when or f"within {self.timeout:g} s"
        with self._lock:
            self._given_up = True
            if self._committing:
                return unknown(f"PostgreSQL did not confirm the COMMIT {when}")
        return EnqueueTimeout(
            f"PostgreSQL was not done {when} and nothing was written; "
            f"call again with the same {self.what}"
        )

    def check_wanted(self) -> None:
        """Raise where the caller had given up before there was anything that could be cut."""
        if self._given_up:
            raise self.give_up()

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
        attempt.check_wanted()
        try:
            connection = await engine.connect()
        except (SQLAlchemyError, OSError, ValueError) as error:  # a host may be no name at all
            raise unreachable(error, attempt.what) from None
        attempt.uses(connection)
        try:
            done = await connection.run_sync(lambda sync: work(sync, attempt.lock_timeout))
            if not attempt.commit_begins():
                raise attempt.give_up()
            await _commit(connection)
            return done
        except DBAPIError as error:
            trouble = refused(error, attempt.timeout, attempt.what)
            if attempt.over or not worth_another_try(error):
                raise trouble from None
        finally:
            await _give_back(connection)
            attempt.uses(None)
    raise trouble


async def _commit(connection: AsyncConnection) -> None:
    try:
        await connection.commit()
    except SQLAlchemyError:
        raise unknown("the connection broke while committing") from None


async def _give_back(connection: AsyncConnection) -> None:
    # A connection that cannot even roll back is thrown away by the pool, and the error is known.
    with suppress(SQLAlchemyError, OSError):
        await connection.close()
