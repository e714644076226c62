"""The tasks: each calls the library and translates its decision for Celery, nothing more."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import Any
from uuid import UUID

from celery import Celery
from celery.exceptions import Reject

from signalpost import broker
from signalpost.reports import Report
from signalpost.timers import SHORT_WAIT_SECONDS
from signalpost_worker.runtime import Runtime

logger = logging.getLogger(__name__)


class TryAgain(Exception):
    """A delivery that will be tried again; its text is the attempt's line, for Flower."""


def register(app: Celery, runtime: Runtime) -> None:
    """Define the tasks on the app alone, and on no other app of the process.

    Their arguments and results are ids and labels only.
    """

    @app.task(name=broker.DELIVER_TASK, bind=True, max_retries=None, shared=False)
    def deliver(self: Any, delivery_id: str) -> str:
        report = runtime.engine.deliver(UUID(delivery_id))
        if report.shutting_down:
            raise Reject(report.line(), requeue=True)
        wait = report.retry_in_seconds
        if wait is not None and wait <= SHORT_WAIT_SECONDS:
            _retry(self, report, wait)
        return report.line()

    # As long as all the lines of a tally, which Celery would cut.
    @app.task(name=broker.DRAIN_TASK, resultrepr_maxsize=64 * 1024, shared=False)
    def drain() -> dict[str, Any]:
        tally = runtime.engine.drain()
        return {**tally, "attempts": tally.lines}

    @app.task(name=broker.ALERT_TASK, shared=False)
    def alert(alert_id: int) -> list[str]:
        return [sent.line() for sent in runtime.alerts.send(alert_id)]

    @app.task(name=broker.PRUNE_TASK, shared=False)
    def prune() -> int:
        return runtime.prune()

    def _retry(task: Any, report: Report, wait: float) -> None:
        again = TryAgain(report.line())
        due = time.monotonic() + wait
        try:
            # Celery would make a plain representation of the arguments for the next message.
            raise task.retry(exc=again, countdown=wait, argsrepr=task.request.argsrepr)
        except Reject:
            # The broker took no message, and took its time over that. The retry's own time is
            # committed; the engine sees to it.
            left = max(0.0, due - time.monotonic())
            runtime.engine.set_timer(replace(report, retry_in_seconds=left))
