"""The mark that every process of a stack carries, and the ending of all that carry it.

A mark in the environment is inherited by children and outlives its owner, so that whatever a
killed owner left behind is found without a list that could be out of date.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = ["Ending", "end_marked", "lineage", "marked", "marks"]

# With an underscore, since these are no settings: nobody is to write them.
OWNER = "_SIGNALPOST_OWNER"
ENDING = "_SIGNALPOST_ENDING"
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process wants to be ended: `number` first, SIGKILL after `grace_seconds`.

    Processes of a higher `tier` end before those of a lower one are told to: servers have tier 0,
    what uses them has tier 1.
    """

    tier: int = 1
    number: int = signal.SIGTERM
    grace_seconds: float = 10.0

    def __str__(self) -> str:
        return f"{self.tier}:{int(self.number)}:{self.grace_seconds}"

    @classmethod
    def read(cls, text: str) -> Ending:
        """The ending that `str` wrote; an ordinary one for anything else."""
        try:
            tier, number, grace = text.split(":")
            return cls(int(tier), int(number), float(grace))
        except ValueError:
            return cls()


def marks(owner: Path, ending: Ending) -> dict[str, str]:
    """The environment variables that mark a process as belonging to the stack in `owner`."""
    return {OWNER: str(owner.resolve()), ENDING: str(ending)}


def marked(owner: Path) -> dict[psutil.Process, Ending]:
    """Every living process that carries the mark of `owner`, but for us and our ancestors."""
    wanted = str(owner.resolve())
    found = {}
    ours = lineage()
    for process in psutil.process_iter():
        if process.pid not in ours and _alive(process):
            environment = _environment(process)
            if environment.get(OWNER) == wanted:
                found[process] = Ending.read(environment.get(ENDING, ""))
    return found


def end_marked(
    owner: Path, *, longest_seconds: float = 60.0, monotonic: Callable[[], float] = time.monotonic
) -> int:
    """End all processes marked for `owner`, tier by tier; how many there were.

    Only the topmost of a family get the polite signal (a database server ends its own children);
    after the grace, `longest_seconds` at most, whatever is left is killed.
    """
    seen: set[psutil.Process] = set()
    while found := marked(owner):
        seen |= found.keys()
        tier = max(ending.tier for ending in found.values())
        family = {process: ending for process, ending in found.items() if ending.tier == tier}
        _ask_to_end(family)
        begin = monotonic()
        while left := [process for process in family if _alive(process)]:
            spent = monotonic() - begin
            for process in left:
                if spent >= min(family[process].grace_seconds, longest_seconds):
                    with suppress(psutil.Error):
                        process.kill()
            time.sleep(POLL_SECONDS)
        # A killed server's children notice within moments, and one just started may be late.
        time.sleep(POLL_SECONDS)
    return len(seen)


def _ask_to_end(family: Mapping[psutil.Process, Ending]) -> None:
    pids = {process.pid for process in family}
    for process, ending in family.items():
        if _parent(process) not in pids:
            with suppress(psutil.Error):
                process.send_signal(ending.number)


def lineage() -> set[int]:
    """The process ids of this process and of its ancestors, as many as there are to be seen."""
    found = {os.getpid()}
    # A warden looks in the very moment in which its parent ends: what is known by then counts.
    with suppress(psutil.Error):
        process = psutil.Process()
        while parent := process.parent():
            found.add(parent.pid)
            process = parent
    return found


def _environment(process: psutil.Process) -> Mapping[str, str]:
    with suppress(psutil.Error, OSError):
        return process.environ()
    return {}


def _parent(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return process.ppid()
    return 0


def _alive(process: psutil.Process) -> bool:
    """Whether it runs; one that waits to be reaped by its parent does not."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
