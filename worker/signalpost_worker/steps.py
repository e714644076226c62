"""Worker steps: engine and alert loop start with the worker, before any broker connection."""

from __future__ import annotations

from typing import Any, Protocol

from celery import Celery, bootsteps
from celery.platforms import EX_FAILURE, EX_OK
from celery.signals import beat_init, worker_ready, worker_shutting_down
from celery.worker import state

from signalpost.broker import ALERTS_QUEUE, DELIVER_QUEUE, DRAIN_QUEUE, QUEUES
from signalpost.errors import SignalpostError
from signalpost_worker import collector
from signalpost_worker.runtime import Runtime


class Service(Protocol):
    """What runs beside Celery from the worker's start to its end."""

    def start(self) -> None:
        """Start, and return once it runs."""

    def stop(self) -> None:
        """End in order."""


class ServiceStep(bootsteps.StartStopStep):
    """Runs a service where one of its queues is consumed.

    An exception in a step stops the worker, which one in a signal receiver would not: no worker
    ever runs without its engine.
    """

    requires = ("celery.worker.components:Timer",)
    service: Service
    queues: tuple[str, ...]
    runtime: Runtime

    def include_if(self, parent: Any) -> bool:
        """Tell whether this worker consumes one of the queues."""
        return any(queue in parent.app.amqp.queues.consume_from for queue in self.queues)

    def start(self, parent: Any) -> None:
        """Start the service; an expected failure is one line, and the end of the worker."""
        # How many messages wait for their attempts at once, as Celery has understood its options.
        self.runtime.threads = parent.concurrency
        try:
            self.service.start()
        except SignalpostError as error:
            raise SystemExit(f"signalpost: {error}") from None

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - celery hands over the worker
        """End the service in order."""
        self.service.stop()

    terminate = stop


class ConsumerStep(bootsteps.StartStopStep):
    """Watches the consumer of any worker of ours."""

    requires = ("celery.worker.components:Timer",)
    runtime: Runtime

    def include_if(self, parent: Any) -> bool:
        """Tell whether this worker consumes any of our queues."""
        return any(queue in parent.app.amqp.queues.consume_from for queue in QUEUES)

    def start(self, parent: Any) -> None:
        """Begin to look."""
        self.runtime.consumer.start(parent)

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - celery hands over the worker
        """Look no more."""
        self.runtime.consumer.stop()
        self.runtime.broker.close()

    terminate = stop


class ExitStep(bootsteps.StartStopStep):
    """Says by the exit code whether the process failed, which Celery does not know."""

    requires = ("celery.worker.components:Timer",)
    runtime: Runtime

    def stop(self, parent: Any) -> None:
        """Set the exit code of an end by SIGTERM or Ctrl-C; that of a forced end stays."""
        if self.runtime.failed:
            # Celery knows of a SIGTERM only; a supervisor that restarts on failure must see one.
            parent.exitcode = EX_FAILURE
        elif self.runtime.asked_to_end and not state.should_terminate:
            # Celery would end an orderly Ctrl-C as a failure, and be started again for it.
            parent.exitcode = EX_OK

    terminate = stop


class WatchStep(bootsteps.StartStopStep):
    """Serves the process's pages from before its first message to after its last."""

    requires = ("celery.worker.components:Timer",)
    runtime: Runtime

    def include_if(self, parent: Any) -> bool:
        """Tell whether pages are asked for, and this worker consumes any of our queues."""
        consumed = parent.app.amqp.queues.consume_from
        wanted = self.runtime.settings.metrics_port is not None
        return wanted and any(queue in consumed for queue in QUEUES)

    def start(self, parent: Any) -> None:
        """Serve; a port that cannot be had is one line, and the end of the worker."""
        consumed = parent.app.amqp.queues.consume_from
        try:
            self.runtime.watching.start(
                delivers=DELIVER_QUEUE in consumed or DRAIN_QUEUE in consumed,
                alerts=ALERTS_QUEUE in consumed,
            )
        except SignalpostError as error:
            raise SystemExit(f"signalpost: {error}") from None

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - celery hands over the worker
        """Serve no more."""
        self.runtime.watching.stop()

    terminate = stop


def install(app: Celery, runtime: Runtime) -> None:
    """Add the steps of a process's services, and hear of its end as soon as it is asked for."""
    services: list[tuple[str, Service, tuple[str, ...]]] = [
        ("EngineStep", runtime.engine, (DELIVER_QUEUE, DRAIN_QUEUE)),
        ("AlertStep", runtime.alerts, (ALERTS_QUEUE,)),
    ]
    for name, service, queues in services:
        step = type(
            name, (ServiceStep,), {"service": service, "queues": queues, "runtime": runtime}
        )
        app.steps["worker"].add(step)
    consumer_step = type("ConsumerStep", (ConsumerStep,), {"runtime": runtime})
    watch_step = type("WatchStep", (WatchStep,), {"runtime": runtime, "requires": (consumer_step,)})
    for looking in (consumer_step, watch_step):
        app.steps["worker"].add(looking)
    app.steps["worker"].add(type("ExitStep", (ExitStep,), {"runtime": runtime}))

    def shutting_down(**_: Any) -> None:
        runtime.asked_to_end = True
        # Celery now waits for running tasks without a limit; the engine's own deadline ends them.
        runtime.consumer.excuse()
        runtime.engine.begin_shutdown()

    def beating(sender: Any, **_: Any) -> None:
        # Not an `Exception`, which Celery would only log.
        try:
            runtime.watching.start_beat(sender)
        except SignalpostError as error:
            raise SystemExit(f"signalpost: {error}") from None

    def ready(**_: Any) -> None:
        collector.settle()

    worker_ready.connect(ready, weak=False)
    worker_shutting_down.connect(shutting_down, weak=False)
    beat_init.connect(beating, weak=False)
