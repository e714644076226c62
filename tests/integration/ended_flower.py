"""Flower as `signalpost worker --role flower` runs it, told to end in the worst moment.

That is where the main thread has just started a thread of a pool, which the pool does not yet know.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

from celery.bin.celery import main

from signalpost.cli.roles import celery_argv


def end_in_between(frame: FrameType, event: str, _: Any) -> None:
    """Raise the signal when a pool's thread has been started, before anything else is done."""
    caller = frame.f_back
    if event != "return" or frame.f_code.co_name != "start" or caller is None:
        return
    if caller.f_code.co_name == "_adjust_thread_count":
        sys.setprofile(None)
        sys.stderr.write("told to end\n")
        signal.raise_signal(signal.SIGTERM)


def run() -> None:
    """Be Flower from here on."""
    words = celery_argv("flower")
    sys.argv = words[words.index("signalpost_worker") :]
    sys.setprofile(end_in_between)
    main()


if __name__ == "__main__":
    run()
