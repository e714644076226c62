"""The engine in a thread of its own, for callers that block: Celery's task threads."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import TypeVar
from uuid import UUID

from signalpost.engine import Engine
from signalpost.logs import place
from signalpost.reports import Report, Tally

logger = logging.getLogger(__name__)

START_SECONDS = 30.0
TURN_SECONDS = 2.0

Result = TypeVar("Result")


class EngineThread:
    """Runs one engine from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        build: Callable[[], AbstractAsyncContextManager[Engine]],
        *,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a function that builds the engine inside its loop and cleans up after it.

        ``died`` is called, in this thread, where a started engine ends without having been asked
        to: whoever hands it deliveries must not go on as if they were made.
        """
        self._build = build
        self._died = died
        self._thread = threading.Thread(target=self._run, name="signalpost-engine", daemon=True)
        self._started: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self._ended: asyncio.Event | None = None

    def start(self) -> None:
        """Start, and return once the engine runs; raises what building it raised."""
        self._thread.start()
        self._started.result(START_SECONDS)

    def deliver(self, delivery_id: UUID) -> Report:
        """Make one attempt, waiting for its record."""
        return self._call(lambda engine: engine.deliver(delivery_id))

    def drain(self) -> Tally:
        """Send whatever is due, waiting until it is done."""
        return self._call(lambda engine: engine.drain())

    def set_timer(self, report: Report) -> None:
        """Let the engine see to a retry for which no message could be sent."""
        loop, engine = self._running()
        loop.call_soon_threadsafe(engine.set_timer, report)

    @property
    def in_flight(self) -> int:
        """How many attempts are under way; 0 where the engine does not run."""
        return 0 if self._engine is None else self._engine.in_flight

    def trouble(self) -> str | None:
        """Say why the engine does not do its work, or nothing; safe from any thread."""
        if self._loop is None or self._engine is None or not self._thread.is_alive():
            return "the engine does not run"
        engine, told = self._engine, Future[str | None]()
        try:
            self._loop.call_soon_threadsafe(lambda: told.set_result(engine.trouble))
            return told.result(TURN_SECONDS)
        except RuntimeError:  # the loop closed just now
            return "the engine does not run"
        except TimeoutError:
            return f"the engine's loop has not turned for {TURN_SECONDS:g} s"

    def begin_shutdown(self) -> None:
        """Claim nothing more, from now on; safe in a signal handler."""
        if self._loop is not None and self._engine is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._engine.begin_shutdown)

    def stop(self) -> None:
        """End in order: what is in flight finishes first, at most until the deadline."""
        if self._loop is not None and self._ended is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()

    def _running(self) -> tuple[asyncio.AbstractEventLoop, Engine]:
        if self._loop is None or self._engine is None:
            raise RuntimeError("the engine of this worker does not run")
        return self._loop, self._engine

    def _call(self, method: Callable[[Engine], Awaitable[Result]]) -> Result:
        loop, engine = self._running()

        async def run() -> Result:
            return await method(engine)

        return asyncio.run_coroutine_threadsafe(run(), loop).result()

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:  # noqa: BLE001 - of whatever it dies
            if self._started.done():
                logger.critical(
                    "the engine has ended error=%s place=%s", type(error).__name__, place(error)
                )
                self._died()
            else:
                self._started.set_exception(error)

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        async with self._build() as engine:
            await engine.start()
            self._engine = engine
            self._started.set_result(None)
            await self._ended.wait()
            await engine.finish()
