"""Watches deliveries again and again, each time interrupted at another moment of a look.

`python -m tests.integration.cli.interrupted_looks COUNT`: the moments are calls of functions, COUNT
of them evenly spread, and those where Python drops what is raised. Prints one JSON document: how
many moments there were, how many in such a place, and what came of those that did not end quietly
by exit code 0.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from types import FrameType
from typing import Any

import psutil

from signalpost.cli import main

WATCH = ["deliveries", "list", "--watch", "1h", "--json"]
LOST_SECONDS = 5.0


def drops(frame: FrameType) -> bool:
    """Whether Python drops what this function raises, since no expression has called it."""
    code = frame.f_code
    return code.co_name == "__del__" or (
        code.co_filename.endswith("weakref.py") and code.co_name in {"remove", "_remove"}
    )


class Watch:
    """One watch, interrupted at the call of this number of its look; where None, after the look."""

    def __init__(self, moment: int | None) -> None:
        self.moment = moment
        self.begun = False
        self.calls = 0
        self.dropping: list[int] = []

    def run(self) -> Any:
        """The exit code, what was written to standard error, and what was called."""
        said = StringIO()
        sys.setprofile(self._at)
        with redirect_stdout(StringIO()), redirect_stderr(said):
            code = main(WATCH)
        return code, said.getvalue(), self.calls, self.dropping

    def _at(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "call" and self.begun:
            self.calls += 1
            if drops(frame):
                self.dropping.append(self.calls)
            if self.calls == self.moment:
                self._interrupt()
        elif event == "call":
            self.begun = frame.f_code.co_name == "look"
        elif event == "c_call" and called is time.sleep and self.moment is None:
            self._interrupt()

    def _interrupt(self) -> None:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGINT)


def in_a_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a forked process, all of which begin alike; None where it hangs."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.close(writing)
    try:
        psutil.Process(child).wait(LOST_SECONDS)
    except psutil.TimeoutExpired:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None
    finally:
        with open(reading) as pipe:  # noqa: PTH123 - a descriptor
            answer = pipe.read()
    return json.loads(answer)


def run(count: int) -> None:
    """Interrupt at each of the moments and tell what came of it."""
    Watch(None).run()  # whatever happens only once in a process
    _, _, calls, dropping = in_a_child(Watch(None).run)
    moments = {*dropping, *range(1, calls, max(1, calls // count))}
    others = {}
    for moment in sorted(moments):
        result = in_a_child(Watch(moment).run)
        if result is None or result[:2] != [0, "\n"]:
            others[moment] = result and result[:2]
    told = {"moments": len(moments), "dropping": len(dropping), "others": others}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    run(int(sys.argv[1]))
