"""Announcing committed deliveries from one background thread that nobody has to wait for."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from signalpost.broker import FEW, Announcement, Broker
from signalpost.producer.loading import loading

__all__ = ["Publisher"]

logger = logging.getLogger(__name__)

MOST_WAITING = 10_000
"""Batches; beyond this the oldest is dropped, and the workers' rescue takes its deliveries."""


STUCK_SECONDS = 0.2
"""A Redis that has kept a batch waiting for so long is not waited for by anybody else."""


class Publisher:
    """Hands announcements to the broker, in batches of what has come up meanwhile.

    Never raises into a caller and never makes one wait: `submit` only appends.
    """

    def __init__(
        self,
        broker: Broker,
        most_waiting: int = MOST_WAITING,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._broker = broker
        self._monotonic = monotonic
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[Sequence[Announcement], Future[bool]]] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._busy_since = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="signalpost-publish", daemon=True)
        self._thread.start()

    def submit(self, announcements: Sequence[Announcement]) -> Future[bool]:
        """Announce these soon; the future tells whether Redis took them (or there were none).

        While Redis keeps the thread waiting, the future says no at once, and the announcement
        still goes out when it can: one slow answer must not slow every caller down.
        """
        told: Future[bool] = Future()
        told.set_running_or_notify_cancel()  # an awaiting caller that is cancelled leaves it alone
        if not announcements:
            told.set_result(True)
            return told
        # More than a few ring the doorbell, which carries no ids, so there is no need to keep them.
        batch = announcements[: FEW + 1]
        with self._changed:
            if self._closing:
                told.set_result(False)
                return told
            if len(self._waiting) >= self._most_waiting:
                self._waiting.popleft()[1].set_result(False)
            self._waiting.append((batch, told))
            if self._busy and self._monotonic() - self._busy_since > STUCK_SECONDS:
                told = Future()
                told.set_result(False)
            self._changed.notify_all()
        return told

    def flush(self, timeout: float) -> bool:
        """Wait until all that was submitted is out, at most `timeout` seconds; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def close(self, timeout: float) -> None:
        """Flush and end the thread, in at most `timeout` seconds; what is left is dropped."""
        end = time.monotonic() + timeout
        self.flush(timeout)
        with self._changed:
            self._closing = True
            while self._waiting:
                self._waiting.popleft()[1].set_result(False)
            self._changed.notify_all()
        self._thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        with loading():
            self._guarded(self._broker.warm_up)
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                batches = list(self._waiting)
                self._waiting.clear()
                self._busy, self._busy_since = True, self._monotonic()
            together = [item for batch, _ in batches for item in batch]
            taken = bool(self._guarded(partial(self._broker.announce, together)))
            for _, told in batches:
                told.set_result(taken)

    @staticmethod
    def _guarded(act: Callable[[], object]) -> object:
        try:
            return act()
        except Exception as trouble:  # noqa: BLE001 - a thread that ends would silence all to come
            logger.error("deliveries were not announced (%s)", type(trouble).__name__)
            return None
