"""What a producer keeps running behind its callers: a loop, connections, and the announcing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost.broker import Announcement, Broker
from signalpost.database import async_engine, check_schema, load_driver
from signalpost.errors import EnqueueError
from signalpost.producer.joining import CommitWatch, Ending
from signalpost.producer.loading import loading
from signalpost.producer.loop import LoopThread
from signalpost.producer.publishing import Publisher
from signalpost.producer.writing import Attempt, write
from signalpost.repository.recognising import pending_among
from signalpost.settings import Settings

__all__ = ["Background"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[Connection, float], T]

CONNECTIONS = 5
ASK_SECONDS = 5.0
MOST_COMMITTING = 1_000
SHORTEST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.0005, 0.05
_CLOSED = "before the producer was closed"


class Background:
    """Started with the first signal of a process, and anew in a forked child."""

    def __init__(self, settings: Settings) -> None:
        self._loop = LoopThread("signalpost-enqueue")
        self._database_url = settings.database_url
        self._engine: AsyncEngine | None = None
        self._schema_checked = False
        self.publisher = Publisher(Broker(settings.redis_url))
        self.watch = CommitWatch(self._committing)
        self._commits: deque[tuple[Ending, Sequence[Announcement]]] = deque(maxlen=MOST_COMMITTING)
        self._following: asyncio.Task[None] | None = None
        self._writing: dict[asyncio.Task[Any] | None, Attempt] = {}

    def run(self, work: Work[T], attempt: Attempt) -> T:
        """Do `work` in a transaction of its own and wait for its commit, until the deadline."""
        future = self._loop.submit(self._write(work, attempt))
        try:
            done, _ = wait([future], attempt.remaining)
        except BaseException:  # Ctrl-C, or an exception that a signal handler raises
            self._give_up(attempt)
            raise
        return self._outcome(future, attempt, done=bool(done))

    async def run_async(self, work: Work[T], attempt: Attempt) -> T:
        """The same for a caller on an event loop of its own, which is never blocked."""
        future = asyncio.wrap_future(self._loop.submit(self._write(work, attempt)))
        future.add_done_callback(_look_at)
        try:
            done, _ = await asyncio.wait({future}, timeout=attempt.remaining)
        except asyncio.CancelledError:
            self._give_up(attempt)
            raise
        return self._outcome(future, attempt, done=bool(done))

    def close(self, timeout: float) -> None:
        """Announce what is left and end all threads, in at most `timeout` seconds and a little."""
        end = time.monotonic() + timeout
        self.flush(timeout)
        self.watch.close()
        self._loop.call(self._cut_all)
        self.publisher.close(_until(end))
        with suppress(Exception):  # a server that does not answer cannot be told goodbye
            self._loop.submit(self._dispose()).result(_until(end))
        self._loop.stop(_until(end))

    def flush(self, timeout: float) -> None:
        """Let running calls end and what is committed be announced, at most `timeout` seconds."""
        end = time.monotonic() + timeout
        with suppress(Exception):
            self._loop.submit(self._settled()).result(timeout)
        self.publisher.flush(_until(end))

    def _outcome(self, future: Future[T] | asyncio.Future[T], attempt: Attempt, *, done: bool) -> T:
        if not done:
            raise self._give_up(attempt)
        # Given up by somebody else than the caller: by closing. A cancellation from there must not
        # look like one of the caller's own.
        if future.cancelled() or (attempt.over and future.exception() is not None):
            raise self._give_up(attempt, _CLOSED)
        return future.result()

    def _give_up(self, attempt: Attempt, when: str | None = None) -> EnqueueError:
        given_up = attempt.give_up(when)
        self._loop.call(attempt.cut)
        return given_up

    async def _write(self, work: Work[T], attempt: Attempt) -> T:
        task = asyncio.current_task()
        self._writing[task] = attempt
        try:
            return await self._written(work, attempt)
        finally:
            del self._writing[task]

    async def _written(self, work: Work[T], attempt: Attempt) -> T:
        def checked(conn: Connection, lock_timeout: float) -> T:
            if not self._schema_checked:
                check_schema(conn)
                self._schema_checked = True
            return work(conn, lock_timeout)

        if self._engine is None:
            # Made here, since loading the driver takes a while and a caller may be an event loop.
            # The caller's deadline bounds the wait for a connection, and nothing else does.
            with loading():
                load_driver()
                self._engine = async_engine(
                    self._database_url,
                    busy=True,
                    pool_size=CONNECTIONS,
                    max_overflow=CONNECTIONS,
                    pool_timeout=86400,
                )
        return await write(self._engine, checked, attempt)

    def _cut_all(self) -> None:
        for attempt in list(self._writing.values()):
            attempt.give_up(_CLOSED)
            attempt.cut()

    async def _dispose(self) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    def _committing(self, transaction: Ending, announcements: Sequence[Announcement]) -> None:
        """Called where a caller's COMMIT is about to be sent, in the caller's thread.

        Closed meanwhile: the workers' rescue takes them.
        """
        self._loop.call(lambda: self._follow(transaction, announcements))

    def _follow(self, transaction: Ending, announcements: Sequence[Announcement]) -> None:
        self._commits.append((transaction, announcements))
        if self._following is None or self._following.done():
            self._following = asyncio.ensure_future(self._follow_commits())

    async def _settled(self) -> None:
        for left in ({self._following}, self._writing):
            if tasks := [task for task in left if task is not None]:
                await asyncio.wait(tasks)

    async def _follow_commits(self) -> None:
        pause = SHORTEST_POLL_SECONDS
        while self._commits:
            ended = [item for item in self._commits if not item[0].is_active]
            if not ended:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_POLL_SECONDS)
                continue
            pause = SHORTEST_POLL_SECONDS
            for item in ended:
                self._commits.remove(item)
            await self._announce([one for item in ended for one in item[1]])

    async def _announce(self, announcements: Sequence[Announcement]) -> None:
        ids = [item.delivery_id for item in announcements]
        attempt = Attempt(ASK_SECONDS)
        try:
            there = await self._ask(lambda conn, _: pending_among(conn, ids), attempt)
        except EnqueueError as trouble:
            logger.warning("deliveries were not announced: %s", trouble)
            return
        if known := [item for item in announcements if item.delivery_id in there]:
            self.publisher.submit(known)

    async def _ask(self, work: Work[T], attempt: Attempt) -> T:
        task = asyncio.ensure_future(self._write(work, attempt))
        done, _ = await asyncio.wait({task}, timeout=attempt.remaining)
        if done:
            return task.result()
        task.add_done_callback(_look_at)
        given_up = attempt.give_up()
        attempt.cut()
        raise given_up


def _until(end: float) -> float:
    # The last steps of an end that takes too long still get a moment each.
    return max(0.1, end - time.monotonic())


def _look_at(future: asyncio.Future[Any]) -> None:
    """Take note of the error, so that asyncio does not report it as unseen."""
    if not future.cancelled():
        future.exception()
