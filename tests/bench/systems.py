"""The systems of a run: how each is started, fed and tuned."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import signalpost

__all__ = ["BY_NAME", "SYSTEMS", "System"]


@dataclass(frozen=True)
class System:
    """One row of the table: a system, and the way that work takes through it.

    `argv` comes after the interpreter of the system's environment and is started `copies` times.
    `expected` is deliveries a second by case, from which the amount of work follows.
    """

    name: str
    way: str
    module: str
    argv: tuple[str, ...]
    tuning: str
    expected: dict[str, float]
    pins: str | None = None
    copies: int = 1
    ready: str = "ready"
    ready_lines: int = 1
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name} {self.way}" if self.name == "signalpost" else self.name

    @property
    def key(self) -> str:
        """Fit for a database's name and the command line."""
        return self.label.replace(" ", "-")

    def command(self, python: Path | None) -> list[str]:
        """The command line of its worker."""
        if python is None:
            return signalpost(*self.argv)
        return [str(python), *self.argv]

    def feeder(self, python: Path | None) -> list[str]:
        """The command line of its feeder."""
        return [str(python or sys.executable), "-m", "tests.bench.feeding", self.module]


_PEERS = "tests.bench.peers"
_CELERY = ("-m", "celery", "-A", f"{_PEERS}.forty_lines", "worker", "-l", "info")


def _ours(way: str, tuning: str, fast: float, slow: float) -> System:
    return System(
        "signalpost",
        way,
        "tests.bench.ours",
        ("worker", "--role", "deliver"),
        tuning,
        {"fast": fast, "slow": slow},
        copies=2,
        environment={"BENCH_WAY": way},
    )


SYSTEMS = (
    System(
        "forty lines",
        "task",
        f"{_PEERS}.forty_lines",
        (*_CELERY, "-c", "2"),
        "Celery prefork, 2 processes (one a core, the default), httpx.Client, two commits",
        {"fast": 220, "slow": 9},
        pins="forty_lines",
    ),
    System(
        "celery tuned",
        "task",
        f"{_PEERS}.forty_lines",
        (*_CELERY, "-c", "16", "-O", "fair", "--without-gossip", "--without-mingle"),
        "the same with 16 processes, no gossip, no mingle",
        {"fast": 300, "slow": 70},
        pins="forty_lines",
    ),
    System(
        "dramatiq",
        "task",
        f"{_PEERS}.dramatiq_peer",
        ("-m", "dramatiq", f"{_PEERS}.dramatiq_peer", "-p", "2", "-t", "64"),
        "2 processes of 64 threads, asynchronous actors, aiohttp, one commit",
        {"fast": 700, "slow": 290},
        pins="dramatiq",
        ready="is ready for action",
        ready_lines=2,
    ),
    System(
        "taskiq",
        "task",
        f"{_PEERS}.taskiq_peer",
        (
            *("-m", "taskiq", "worker", f"{_PEERS}.taskiq_peer:broker"),
            *("--workers", "2", "--max-async-tasks", "200"),
        ),
        "2 processes of 200 tasks, Redis list, uvloop, aiohttp, one commit",
        {"fast": 1200, "slow": 530},
        pins="taskiq",
        ready_lines=2,
    ),
    System(
        "arq",
        "task",
        f"{_PEERS}.arq_peer",
        ("-m", "arq", f"{_PEERS}.arq_peer.WorkerSettings"),
        "2 processes of 200 jobs, poll_delay 5 ms, no results, aiohttp, one commit",
        {"fast": 700, "slow": 420},
        pins="arq",
        copies=2,
    ),
    System(
        "procrastinate",
        "task",
        f"{_PEERS}.procrastinate_peer",
        (
            *("-m", "procrastinate", "--app", f"{_PEERS}.procrastinate_peer.app"),
            *("-v", "worker", "--concurrency", "200"),
        ),
        "2 processes of 200 jobs, aiohttp, one commit",
        {"fast": 500, "slow": 450},
        pins="procrastinate",
        copies=2,
        ready="Starting worker",
    ),
    _ours("deliver", "2 processes as they come, a message each", 500, 400),
    _ours("drain", "2 processes as they come, the doorbell", 3000, 1200),
)
BY_NAME = {system.key: system for system in SYSTEMS}
