"""What processes cost: processor seconds of whole trees of them, and their memory."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from contextlib import suppress

import psutil

__all__ = ["cpu_seconds", "mebibytes", "send"]


def _tree(pids: Iterable[int]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system seconds of these processes and all their children, ended ones included."""
    total = 0.0
    for process in _tree(pids):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
            # Only Unix counts children that have ended.
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def mebibytes(pids: Iterable[int]) -> float:
    """Memory of these processes and all their children, each shared page counted once (Linux)."""
    total = 0
    for process in _tree(pids):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            full = process.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
    return total / 1024**2


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to these processes and all their children."""
    for process in _tree(pids):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
