"""A guard for Flower, which may hang when it is told to end.

Flower answers SIGTERM by raising SystemExit, and Ctrl-C raises KeyboardInterrupt, wherever the main
thread happens to be. Where it is just starting a thread of a pool, the pool does not get to know
that thread, nobody tells it to end, and the interpreter waits for it for ever. So both signals end
Flower's loop between two of its steps instead. Flower is loaded by Celery's command line, in every
process where it is installed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

LAST_SECONDS = 10.0
"""A call to Redis that is still under way at the end is not waited for any longer."""


def install() -> bool:
    """Put the guard in place where Flower is loaded; tell whether it stands."""
    loaded: Any = sys.modules.get("flower.app")
    if loaded is None:
        return False
    if not hasattr(loaded.Flower, "signalpost_starts"):
        loaded.Flower.signalpost_starts = loaded.Flower.start
        loaded.Flower.start = _start
    return True


def _start(flower: Any) -> None:
    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's form
        flower.io_loop.add_callback_from_signal(flower.io_loop.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    flower.signalpost_starts()
    # What Flower knows is in its memory only: nothing is lost by an end in mid-call.
    last = threading.Timer(LAST_SECONDS, os._exit, (0,))
    last.daemon = True
    last.start()
