"""A consumer that is stuck ends its own process, so that whoever runs the worker starts it again.

Workers have been seen to stop consuming and to live on: the process is there, its log is quiet, it
answers a ping, and its messages wait. Deliveries go on by the rescue, seconds late, for as long as
nobody looks; so the process looks itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from celery.worker import state

from signalpost.broker import Broker
from signalpost.health import STUCK_SECONDS, Reading, consumer_trouble
from signalpost_worker import hearing

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
LOOKS = 3
"""So many looks in a row must find it stuck: a process that was itself stopped for minutes has
heard nothing either, and needs a moment to read what has come meanwhile."""


class ConsumerWatch:
    """Looks at this process's consumer from a thread of its own, from start to stop.

    Args:
        broker: asks whether Redis answers, by a connection of its own.
        stuck: called once, in that thread, when the consumer is found stuck.
        stuck_seconds: silent for so long, while Redis answers, it is stuck.
        look_seconds: how often to look.
    """

    def __init__(
        self,
        broker: Broker,
        stuck: Callable[[], None],
        *,
        stuck_seconds: float = STUCK_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._broker = broker
        self._stuck = stuck
        self._stuck_seconds = stuck_seconds
        self._look_seconds = look_seconds
        self._reading: Reading | None = None
        self._excused = False
        self._ended = threading.Event()

    def start(self, worker: Any) -> None:
        """Begin to look at the worker's consumer, where the installed kombu lets it be heard."""
        if not hearing.install():
            return

        def busy() -> bool:
            # At its limit a consumer asks Redis for no more until a task has ended.
            qos = getattr(getattr(worker, "consumer", None), "qos", None)
            limit = 0 if qos is None else qos.value
            return bool(limit) and len(state.reserved_requests) >= limit

        self._reading = Reading(
            heard_at=hearing.heard_at, redis_answers=self._broker.answers, busy=busy
        )
        threading.Thread(target=self._watch, name="signalpost-stuck", daemon=True).start()

    def excuse(self) -> None:
        """The worker was asked to end, and rightly takes no more; safe in a signal handler."""
        self._excused = True

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()

    @property
    def heard(self) -> bool:
        """Whether anything can be said of the consumer."""
        return self._reading is not None

    def silent_seconds(self) -> float:
        """How long the consumer has heard nothing from a Redis that answers."""
        return 0.0 if self._reading is None or self._excused else self._reading.silent_seconds()

    def trouble(self) -> str | None:
        """Say that the consumer is stuck, or nothing."""
        return consumer_trouble(self.silent_seconds(), stuck_seconds=self._stuck_seconds)

    def _watch(self) -> None:
        found = 0
        while not self._ended.wait(self._look_seconds):
            trouble = self.trouble()
            found = 0 if trouble is None else found + 1
            if found == LOOKS:
                logger.critical("%s: this process ends, to be started again", trouble)
                self._stuck()
                return
