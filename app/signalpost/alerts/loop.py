"""The ops worker's own loop over unsent alerts: it asks PostgreSQL, so alerts need no Redis."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost.alerts.couriers import Courier
from signalpost.alerts.rounds import Round, no_rounds, repeat
from signalpost.alerts.sending import DEFAULT_PACE, Sent, send_due
from signalpost.core.alerting import Pace
from signalpost.logs import place

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
TURN_SECONDS = 5.0


class AlertLoop:
    """Sends due alerts one by one in a thread with an event loop of its own.

    Args:
        open_database: makes the engine; called in the thread, since engines belong to one loop.
        open_courier: makes the courier; likewise. Entered at the start, left at the end.
        open_rounds: makes what is done beside the sending, such as the watch; likewise.
        pace: which alerts wait for each other, and how many messages there may be.
        interval_seconds: between two looks while nothing is due.
        turn_seconds: how long ``send`` waits for its turn before it leaves its alert to the loop.
        died: called, in the thread, where a started loop ends without having been asked to: a
            process that only looks as if it alerted must not go on.

    A database that is away is logged once and waited for. Celery's alert task sends through
    ``send``, so that one process has one courier, and the spacing of messages holds.
    """

    def __init__(
        self,
        open_database: Callable[[], AsyncEngine],
        open_courier: Callable[[], AbstractAsyncContextManager[Courier]],
        *,
        open_rounds: Callable[[], AbstractAsyncContextManager[Sequence[Round]]] = no_rounds,
        pace: Pace = DEFAULT_PACE,
        interval_seconds: float = INTERVAL_SECONDS,
        turn_seconds: float = TURN_SECONDS,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_database = open_database
        self._open_courier = open_courier
        self._open_rounds = open_rounds
        self._pace = pace
        self._interval_seconds = interval_seconds
        self._turn_seconds = turn_seconds
        self._died = died
        self._broken_off = False
        self._thread: threading.Thread | None = None
        self._started: concurrent.futures.Future[_Running] = concurrent.futures.Future()

    def start(self) -> None:
        """Start the thread; raises what opening the database's engine or the courier raises."""
        self._started = concurrent.futures.Future()
        self._broken_off = False
        self._thread = threading.Thread(target=self._run, name="signalpost-alerts", daemon=True)
        self._thread.start()
        self._started.result()

    def send(self, alert_id: int, *, timeout_seconds: float = 40.0) -> list[Sent]:
        """Send the message that one alert is in now, from any other thread.

        Returns:
            What became of it; empty where the alert needs nothing, or is left to the loop because
            others go first, it waits for others of its kind, Telegram asked for a pause, the
            database is away, or the loop is stopping.
        """
        if self._thread is None or not self._thread.is_alive():
            return []
        running = self._started.result()
        sending = running.send_one(alert_id)
        try:
            future = asyncio.run_coroutine_threadsafe(sending, running.loop)
        except RuntimeError:  # the loop closed just now
            sending.close()
            return []
        try:
            return future.result(timeout_seconds)
        except (concurrent.futures.CancelledError, TimeoutError):
            # Left running: cancelling between the sending and its receipt would send it twice.
            return []

    def stop(self, *, timeout_seconds: float = 25.0) -> None:
        """End after the message in hand; past ``timeout_seconds`` that one is broken off."""
        thread, self._thread = self._thread, None
        if thread is None or not thread.is_alive():
            return
        running = self._started.result()
        running.call(running.stopping.set)
        thread.join(timeout_seconds)
        if thread.is_alive():
            logger.warning("alerts: a message is broken off at shutdown; it may be sent once more")
            self._broken_off = True
            running.call(running.task.cancel)
            thread.join(5.0)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - of whatever it dies, somebody must hear it
            if not self._started.done():
                self._started.set_exception(error)
            elif self._broken_off:
                logger.warning("alerts: the loop was broken off")
            else:
                logger.critical(
                    "alerts: the loop has ended, nothing is alerted any more error=%s place=%s",
                    type(error).__name__,
                    place(error),
                )
                self._died()

    async def _main(self) -> None:
        db = self._open_database()
        try:
            async with self._open_courier() as courier, self._open_rounds() as rounds:
                running = _Running(
                    db, courier, self._pace, self._interval_seconds, self._turn_seconds
                )
                async with asyncio.TaskGroup() as group:
                    going = [group.create_task(repeat(each, db)) for each in rounds]
                    self._started.set_result(running)
                    await running.until_stopped()
                    for task in going:
                        task.cancel()
        finally:
            await db.dispose()


class _Running:
    """One start of the loop; lives in its thread."""

    def __init__(
        self,
        db: AsyncEngine,
        courier: Courier,
        pace: Pace,
        interval_seconds: float,
        turn_seconds: float,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        self.task = task
        self._db = db
        self._courier = courier
        self._pace = pace
        self._interval_seconds = interval_seconds
        self._turn_seconds = turn_seconds
        self._turn = asyncio.Lock()
        self._quiet_until = self.loop.time()
        self._trouble: str | None = None

    def call(self, function: Callable[[], object]) -> None:
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            return  # closed already: that is what the caller wanted

    async def until_stopped(self) -> None:
        while not self.stopping.is_set():
            async with self._turn:
                results = await self._send(None)
            if not any(result.receipt for result in results):
                await self._wait()
        async with self._turn:  # a task's message in hand ends well
            return

    async def send_one(self, alert_id: int) -> list[Sent]:
        try:
            async with asyncio.timeout(self._turn_seconds):
                await self._turn.acquire()
        except TimeoutError:
            return []
        try:
            return await self._send(alert_id)
        finally:
            self._turn.release()

    async def _send(self, alert_id: int | None) -> list[Sent]:
        """One message at most, so that tasks and the loop take turns."""
        if self.stopping.is_set() or self.loop.time() < self._quiet_until:
            return []
        try:
            results = await send_due(
                self._db, self._courier, pace=self._pace, alert_id=alert_id, limit=1
            )
        except Exception as error:  # noqa: BLE001 - alerts go on whatever happens to one of them
            self._report(error)
            return []
        if self._trouble is not None:
            logger.warning("alerts: sending goes on")
            self._trouble = None
        quiet = max((result.quiet_seconds or 0.0 for result in results), default=0.0)
        self._quiet_until = self.loop.time() + quiet
        return results

    def _report(self, error: Exception) -> None:
        """Log a trouble once, not once a second, and nothing that an error's text may carry."""
        trouble = type(error).__name__
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if isinstance(error, SQLAlchemyError | OSError):
            logger.error("alerts: the database cannot be used (%s); trying on", trouble)
            return
        logger.error("alerts: internal error %s at %s", trouble, place(error))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._interval_seconds):
                await self.stopping.wait()
        except TimeoutError:
            return
