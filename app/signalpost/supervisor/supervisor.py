"""Starts processes, reads their lines, starts again what dies, ends them in order."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from types import FrameType

from signalpost.embedded.marks import Ending
from signalpost.embedded.restarts import Restarts
from signalpost.supervisor.lines import PrefixedLines

__all__ = ["Child", "Supervisor"]

LINE_BYTES = 65_536
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Child:
    """A process to run: `env` is added to our environment; `stop_signal` asks it to end.

    After `grace_seconds` it is killed. Neighbours of one `stage` end at the same time, otherwise
    a child ends before those that stand before it are asked to.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    stage: str | None = None

    @property
    def ending(self) -> Ending:
        """The same, as the warden wants to know it."""
        return Ending(number=self.stop_signal, grace_seconds=self.grace_seconds)


class Supervisor:
    """Runs `children` in the order given, each in a process group of its own.

    So a Ctrl-C in the terminal reaches only us. `lines` gets what they and we have to say; `marks`
    gives the environment by which a warden knows them (`Stack.marks`); `restarts` makes the waits
    before restarts of one child.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        lines: PrefixedLines,
        marks: Callable[[Ending], Mapping[str, str]] = lambda _: {},
        restarts: Callable[[], Restarts] = Restarts,
        monotonic: Callable[[], float] = time.monotonic,
        name: str = "up",
    ) -> None:
        self._lines = lines
        self._marks = marks
        self._monotonic = monotonic
        self._name = name
        self._ending = threading.Event()
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._times_asked = 0
        self._runs = [_Run(child, restarts()) for child in children]

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of the children that run now, by name."""
        return {run.child.name: run.process.pid for run in self._runs if run.process and run.alive}

    def run(self) -> int:
        """Start all and block until Ctrl-C, SIGTERM, SIGHUP or `ask_to_stop`, then end all.

        A second Ctrl-C kills them. Returns the exit code: 0 when all ended in their grace, 1 when
        one had to be killed. Only the main thread may call it.
        """
        with self._signals_answered():
            try:
                self.start()
                self._asked.get()
                self._say("ending all: what is under way may finish; a second Ctrl-C kills")
            finally:
                code = self.stop()
        return code

    def start(self) -> None:
        """Start all and return; for one who has more to do meanwhile. End it by `stop`."""
        for run in self._runs:
            if self._times_asked:
                return
            with run.lock:
                self._spawn(run)
            run.keeper = threading.Thread(target=self._keep, args=(run,), name=run.child.name)
            run.keeper.start()

    def ask_to_stop(self) -> None:
        """Make `run` end; safe from any thread and from a signal handler."""
        self._times_asked += 1
        self._asked.put(None)

    def stop(self) -> int:
        """End all, last started first, and return the exit code as `run` does."""
        self._ending.set()
        killed = False
        for _, stage in groupby(reversed(self._runs), lambda run: run.child.stage or id(run)):
            killed |= self._end(list(stage))
        for run in self._runs:
            if run.keeper is not None:
                run.keeper.join()
        return int(killed)

    def _say(self, text: str) -> None:
        self._lines.write(self._name, text)

    def _spawn(self, run: _Run) -> None:
        child = run.child
        try:
            run.process = subprocess.Popen(
                list(child.argv),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **child.env, **self._marks(child.ending)},
                start_new_session=True,
            )
        except OSError as error:
            run.process = None
            self._say(f"{child.name} cannot be started: {error.strerror}")
            return
        reader = threading.Thread(target=self._read, args=(run.process, child.name), daemon=True)
        reader.start()
        run.reader = reader
        self._say(f"{child.name} started (process {run.process.pid})")

    def _read(self, process: subprocess.Popen[bytes], name: str) -> None:
        if process.stdout is None:
            return
        with process.stdout as pipe:
            while line := pipe.readline(LINE_BYTES):
                self._lines.write(name, line.decode(errors="replace"))

    def _keep(self, run: _Run) -> None:
        """Wait for one child's death and start it again, until all are to end."""
        while True:
            since = self._monotonic()
            how = run.wait()
            if self._ending.is_set():
                return
            # Whatever it had started itself goes with it, or the next one would meet it.
            run.kill()
            delay = run.restarts.delay(self._monotonic() - since)
            self._say(f"{run.child.name} {how}; starting it again in {delay:g} s")
            if self._ending.wait(delay):
                return
            with run.lock:
                if self._ending.is_set():
                    return
                self._spawn(run)

    def _end(self, stage: Sequence[_Run]) -> bool:
        """End the children of one stage together; whether one had to be killed."""
        running = []
        for run in stage:
            with run.lock:
                if run.alive:
                    running.append(run)
                    run.send(run.child.stop_signal)
        begin = self._monotonic()
        killed: list[_Run] = []
        while running := [run for run in running if run.alive]:
            spent = self._monotonic() - begin
            for run in running:
                late = self._times_asked > 1 or spent > run.child.grace_seconds
                if late and run not in killed:
                    self._say(f"{run.child.name} did not end in time and is killed")
                    killed.append(run)
                    run.kill()
            time.sleep(POLL_SECONDS)
        return bool(killed)

    @contextmanager
    def _signals_answered(self) -> Iterator[None]:
        def answer(_number: int, _frame: FrameType | None) -> None:
            self.ask_to_stop()

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, answer) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass(slots=True, eq=False)
class _Run:
    """One child as it runs now."""

    child: Child
    restarts: Restarts
    process: subprocess.Popen[bytes] | None = None
    reader: threading.Thread | None = None
    keeper: threading.Thread | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait(self) -> str:
        """Wait for its death and for its last lines; how it died."""
        if self.process is None:
            return "did not start"
        code = self.process.wait()
        if self.reader is not None:
            # A grandchild may hold the pipe open; it is not waited for.
            self.reader.join(1.0)
        return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"

    def send(self, number: signal.Signals) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
