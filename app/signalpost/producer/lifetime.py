"""When a producer's background starts and ends: first use, close, fork, the end of the process."""

from __future__ import annotations

import atexit
import os
import threading
import time
from contextlib import suppress
from weakref import WeakSet, finalize

from signalpost.errors import EnqueueError
from signalpost.producer.background import Background
from signalpost.settings import Settings

__all__ = ["Lifetime"]

CLOSE_SECONDS = 1.0


class Lifetime:
    """Holds the background of one producer in whichever process it is used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._background: Background | None = None
        self._unheld: finalize[[Background], Lifetime] | None = None
        self._closed = False
        _living.add(self)

    def background(self) -> Background:
        """The running background, started where there is none. Raises EnqueueError once closed."""
        running = self._background
        if running is not None and not self._closed:
            return running
        with self._lock:
            if self._closed:
                raise EnqueueError("this producer is closed; make a new one")
            if self._background is None:
                self._background = Background(self._settings)
                self._unheld = finalize(self, _let_go, self._background)
                self._unheld.atexit = False  # that is _at_exit's
            return self._background

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Announce what is left and end the background, in about `timeout` seconds."""
        with self._lock:
            self._closed = True
            background, self._background = self._background, None
            self._detach()
        if background is not None:
            background.close(timeout)

    def forget(self) -> None:
        """Leave the background to the parent process; its threads do not exist in a child."""
        self._lock = threading.Lock()
        if self._background is not None:
            _left_to_the_parent.append(self._background)
            self._background = None
            self._detach()

    def _detach(self) -> None:
        if self._unheld is not None:
            self._unheld.detach()
            self._unheld = None


_living: WeakSet[Lifetime] = WeakSet()

# Never let go of: closing the parent's loop or connections here would reach into the parent's own
# (an epoll set is shared by both processes).
_left_to_the_parent: list[Background] = []


def _let_go(background: Background) -> None:
    # A producer that nobody holds any more, and nobody closed: its threads and connections would
    # stay for ever. In a thread of its own, since whoever collects garbage must not wait.
    closing = threading.Thread(target=background.close, args=(CLOSE_SECONDS,), daemon=True)
    with suppress(RuntimeError):  # the interpreter is ending
        closing.start()


def _in_the_child() -> None:
    for lifetime in list(_living):
        lifetime.forget()


def _at_exit() -> None:
    end = time.monotonic() + CLOSE_SECONDS
    for lifetime in list(_living):
        lifetime.close(max(0.1, end - time.monotonic()))


os.register_at_fork(after_in_child=_in_the_child)
atexit.register(_at_exit)
