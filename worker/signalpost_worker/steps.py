"""Worker steps: the engine and the alert loop start with the worker, before any broker connection."""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps
from celery.signals import worker_shutting_down

from signalpost.broker import ALERTS_QUEUE, DELIVER_QUEUE, DRAIN_QUEUE
from signalpost.errors import SignalpostError
from signalpost_worker.runtime import Runtime


def install(app: Celery, runtime: Runtime) -> None:
    """Add the steps that this process's queues ask for.

    An exception in a step stops the worker, which one in a signal receiver would not: no worker
    ever runs without its engine.
    """

    class EngineStep(bootsteps.StartStopStep):
        """Runs the engine where deliveries are consumed."""

        requires = ("celery.worker.components:Timer",)

        def include_if(self, parent: Any) -> bool:
            return _consumes(app, DELIVER_QUEUE, DRAIN_QUEUE)

        def start(self, parent: Any) -> None:
            _start(runtime.engine.start)

        def stop(self, parent: Any) -> None:
            runtime.engine.stop()

        terminate = stop

    class AlertStep(bootsteps.StartStopStep):
        """Runs the alert loop where alerts are consumed."""

        requires = ("celery.worker.components:Timer",)

        def include_if(self, parent: Any) -> bool:
            return _consumes(app, ALERTS_QUEUE)

        def start(self, parent: Any) -> None:
            _start(runtime.alerts.start)

        def stop(self, parent: Any) -> None:
            runtime.alerts.stop()

        terminate = stop

    app.steps["worker"].add(EngineStep)
    app.steps["worker"].add(AlertStep)

    def shutting_down(**_: Any) -> None:
        # Celery now waits for running tasks without a limit; the engine's own deadline ends them.
        runtime.engine.begin_shutdown()

    worker_shutting_down.connect(shutting_down, weak=False)


def _consumes(app: Celery, *queues: str) -> bool:
    return any(queue in app.amqp.queues.consume_from for queue in queues)


def _start(start: Any) -> None:
    try:
        start()
    except SignalpostError as error:
        raise SystemExit(f"signalpost: {error}") from None
