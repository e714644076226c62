"""Imports made by background threads, which a fork must not cut in half.

A module whose import is under way when the process forks can never be imported in the child: the
import's lock belongs to a thread that does not exist there, and whoever asks waits for ever. So a
fork waits until what is being loaded here has been loaded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["loading"]

LONGEST_SECONDS = 10.0
"""A fork is not held up for longer, whatever hinders the import."""


class _Gate:
    """Open to any number of loaders, and to a fork only while there is none."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """In a child there is no loader, and nobody who could hold the lock."""
        self._changed = threading.Condition()
        self._loaders = 0

    def enter(self) -> None:
        with self._changed:
            self._loaders += 1

    def leave(self) -> None:
        with self._changed:
            self._loaders -= 1
            self._changed.notify_all()

    def before_a_fork(self) -> None:
        self._changed.acquire()  # kept until the fork is done, so that nobody begins meanwhile
        self._changed.wait_for(lambda: not self._loaders, LONGEST_SECONDS)

    def after_a_fork(self) -> None:
        self._changed.release()


_gate = _Gate()
os.register_at_fork(
    before=_gate.before_a_fork,
    after_in_parent=_gate.after_a_fork,
    after_in_child=_gate.reset,
)


@contextmanager
def loading() -> Iterator[None]:
    """Import within this block what a background thread needs."""
    _gate.enter()
    try:
        yield
    finally:
        _gate.leave()
