"""The warden's own process: waits until its owner is gone, then ends all that it left behind.

Its standard input is a pipe whose other end only the owner holds, so that the pipe closes at the
moment the owner ends, kill -9 included. It ignores the signals a terminal sends, since a Ctrl-C
is the owner's to answer. Argument: the folder whose mark the processes carry.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from signalpost.embedded.marks import end_marked

__all__ = ["main"]

LONGEST_SECONDS = 10.0
# Spelled out: its home would load the settings, and this process is to be small.
STACK_FILE = "stack.json"


def main(owner: Path) -> None:
    """Block until standard input closes, then end all that is marked for the folder `owner`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while sys.stdin.buffer.read(4096):
        pass
    end_marked(owner, longest_seconds=LONGEST_SECONDS)
    (owner / STACK_FILE).unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
