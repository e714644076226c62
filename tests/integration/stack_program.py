"""Holds a stack in the folder named by its argument, with one marked child, until it is told.

A program for test_embedded.py, which kills it: prints `ready`, then what the stack has to say.
SIGINT and SIGTERM end it in order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from signalpost.embedded import Ending, Stack
from signalpost.errors import EmbeddedError


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the test reads it


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Stack.start(Path(sys.argv[1]), say=say) as stack:
            child = subprocess.Popen(
                [sys.executable, "-c", "import time; time.sleep(600)"],
                env={**os.environ, **stack.marks(Ending(grace_seconds=1))},
                start_new_session=True,
            )
            try:
                say(f"ready child={child.pid}")
                child.wait()
            except KeyboardInterrupt:
                say("stopping")
    except EmbeddedError as error:
        say(f"refused: {error}")
        return 1
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
