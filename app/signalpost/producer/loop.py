"""An asyncio loop in a daemon thread: one implementation serves blocking and awaiting callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["LoopThread"]

T = TypeVar("T")


class LoopThread:
    """A running event loop; made running, ended by `stop`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` on the loop; the future may be waited for from any thread.

        It is cancelled where the loop has ended, or ends before the work does.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # closed
            work.close()
            never: Future[T] = Future()
            never.cancel()
            never.set_running_or_notify_cancel()
            return never

    def call(self, act: Callable[[], object]) -> None:
        """Run `act` on the loop soon, or never where the loop has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act)

    def stop(self, timeout: float) -> None:
        """Cancel what is left, end the loop and wait for the thread, at most `timeout` seconds."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
