"""Real processes for tests: `signalpost ...` or a worker, its lines captured, ended for certain."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from signalpost.embedded.launching import free_port
from signalpost.embedded.marks import Ending
from tests import stack

__all__ = ["Program", "clean_environment", "free_ports", "gone", "signalpost", "wait_for"]

OPERATORS_SETTINGS = re.compile(
    r"^(SIGNALPOST_.*|DATABASE_URL|REDIS_URL|SECRET_KEYS|PRODUCER_ID|HMAC_.*|OUTBOUND_.*|OPS_.*"
    r"|MAX_RETRIES|RETRY_DELAY_SECONDS|RETENTION_DAYS|HEARTBEAT_URL|METRICS_.*|PROCESS_INDEX|LOG_FORMAT"
    r"|REDIS_CA_FILE|NO_COLOR)$"
)


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of signalpost that an operator may have."""
    return {key: value for key, value in os.environ.items() if not OPERATORS_SETTINGS.match(key)}


def signalpost(*arguments: str) -> list[str]:
    """The command line that runs the installed `signalpost` command."""
    return [str(Path(sys.executable).with_name("signalpost")), *arguments]


def wait_for(
    condition: Callable[[], object], deadline: float = 30.0, what: str = "the condition"
) -> None:
    """Return as soon as `condition()` is true; fail after `deadline` seconds."""
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true within {deadline} s"
        time.sleep(0.01)


def free_ports(count: int) -> int:
    """The first of so many free loopback ports in a row."""
    while True:
        first = free_port()
        if all(free_port(port) == port for port in range(first + 1, first + count)):
            return first


def gone(*pids: int) -> bool:
    """Whether none of these processes runs; one that only waits to be reaped does not."""
    return not any(map(_runs, pids))


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Program:
    """A running program; as a context manager it is ended at the end, come what may.

    `env` is added to a clean environment. stdout and stderr arrive together in `lines`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        grace_seconds: float = 20.0,
    ) -> None:
        self.lines: list[str] = []
        self._grace = grace_seconds
        self._news = threading.Condition()
        marks = stack.warden().marks(Ending(grace_seconds=grace_seconds))
        self.process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**clean_environment(), "PYTHONUNBUFFERED": "1", **(env or {}), **marks},
            start_new_session=True,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        """All that it wrote so far."""
        return "\n".join(self.lines)

    def wait_for_line(
        self, pattern: str, deadline: float = 30.0, *, after: int = 0
    ) -> re.Match[str]:
        """The first match of `pattern` in a line, from line number `after` on; may have passed.

        Fails when `deadline` seconds are over, or when the program ended without such a line.
        """
        wanted = re.compile(pattern)
        end = time.monotonic() + deadline
        seen = after
        with self._news:
            while True:
                while seen < len(self.lines):
                    if match := wanted.search(self.lines[seen]):
                        return match
                    seen += 1
                left = end - time.monotonic()
                assert left > 0, f"no line {pattern!r} within {deadline} s in:\n{self.output}"
                assert self._reader.is_alive(), f"ended without line {pattern!r}:\n{self.output}"
                self._news.wait(min(left, 0.2))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill -9 of this one process, as a crash would be; returns when it is gone."""
        self.process.kill()
        self.process.wait()

    def wait(self, deadline: float = 30.0) -> int:
        """Its exit code, once it has ended by itself and all its lines have been read."""
        code = self.process.wait(deadline)
        # A process that it started may still hold the pipe.
        self._reader.join(1)
        return code

    def end(self) -> int:
        """SIGTERM, then kill -9 of its process group after the grace; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(self._grace)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
        return self.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
