"""Ctrl-C that is not lost: Python drops an exception that a finalizer or a callback raises."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupted", "interrupts_kept"]

_AGAIN_SECONDS = 0.005
"""Until the interrupt comes again: long enough for the callback that swallowed it to be over."""


def interrupted(error: BaseException | None) -> bool:
    """Whether an error is Ctrl-C, or came of it.

    A library that is interrupted cleans up, and may fail in that: its error then takes the place of
    the interrupt, which stands behind it.
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Let a KeyboardInterrupt that was dropped come again, until somebody hears it.

    Ctrl-C raises wherever the main thread happens to be: also in a weak reference's callback or in
    `__del__`, of which a database library has many. There Python prints the exception and goes on,
    and a command that watches or waits would do so until the next Ctrl-C.
    """
    told = sys.unraisablehook
    armed = False

    def hear(dropped: sys.UnraisableHookArgs) -> None:
        nonlocal armed
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            armed = True
            # A timer, since whatever is raised in here would be dropped as well.
            signal.signal(signal.SIGALRM, _interrupt)
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        else:
            told(dropped)

    sys.unraisablehook = hear
    try:
        yield
    finally:
        if armed:
            # What ended by itself in the meantime has ended.
            signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = told


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's form
    signal.raise_signal(signal.SIGINT)
