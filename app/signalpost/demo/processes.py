"""The demo's own child processes: started apart from the terminal, ended by their own id."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from signalpost.embedded.launching import open_log
from signalpost.errors import SignalpostError

__all__ = ["Child", "start_receiver"]

END_SECONDS = 5.0


class Child:
    """One process in a group of its own, so that Ctrl-C reaches it only by way of the demo.

    Its stderr goes to ``log``, its stdout to ``output`` or, without one, into a pipe.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        output: Path | None = None,
        text: str = "",
    ) -> None:
        with open_log(log) as errors, open_log(output or log) as lines:
            self.process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if output is None else lines,
                stderr=errors,
                env=dict(environment),
                start_new_session=True,
                text=True,
            )
        if text and self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.write(text)
                self.process.stdin.flush()

    def first_line(self) -> str:
        """Wait for the first line on stdout (empty where the process ends without one)."""
        return self.process.stdout.readline() if self.process.stdout is not None else ""

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self.process.poll()

    def end(self) -> int:
        """Ask it to end, kill it after a while, and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


def start_receiver(
    folder: Path, plan: str, *, environment: Mapping[str, str], log: Path
) -> tuple[Child, int]:
    """Start the demo's receiver; return it with the port that it serves.

    Raises:
        SignalpostError: it did not start.
    """
    child = Child(
        [sys.executable, "-P", "-m", "signalpost.demo.receiver_process", str(folder)],
        environment=environment,
        log=log,
        text=f"{plan}\n",
    )
    name, _, port = child.first_line().strip().partition("=")
    if name != "port":
        child.end()
        raise SignalpostError(f"the demo's receiver did not start (see {log})")
    return child, int(port)
