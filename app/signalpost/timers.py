"""Timers: retries that no message will bring back in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

from signalpost.reports import Report

SHORT_WAIT_SECONDS = 300.0
"""A retry due within this long gets a message or a timer; a later one is left to the rescue."""
MOST_TIMERS = 10_000


class Timers:
    """One timer a delivery at most; ``due`` is called with its id when it is time."""

    def __init__(self, due: Callable[[UUID], None]) -> None:
        self._due = due
        self._timers: dict[UUID, asyncio.TimerHandle] = {}
        self._stopped = False

    def set(self, report: Report) -> None:
        """Try again in time what nobody else will: a retry recorded outside ``deliver``."""
        wait = report.retry_in_seconds
        if wait is None or wait > SHORT_WAIT_SECONDS or self._stopped:
            return
        if len(self._timers) >= MOST_TIMERS and report.delivery_id not in self._timers:
            return
        known = self._timers.pop(report.delivery_id, None)
        if known is not None:
            known.cancel()
        self._timers[report.delivery_id] = asyncio.get_running_loop().call_later(
            wait, self._ring, report.delivery_id
        )

    def drop(self, delivery_id: UUID) -> None:
        """Forget a delivery that was taken before its time here came."""
        timer = self._timers.pop(delivery_id, None)
        if timer is not None:
            timer.cancel()

    def _ring(self, delivery_id: UUID) -> None:
        self._timers.pop(delivery_id, None)
        self._due(delivery_id)

    def stop(self) -> None:
        """Let none ring any more; PostgreSQL knows when each is due."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
