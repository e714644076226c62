"""Starting a server process under its account, waiting for it, ending it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from signalpost.embedded.programs import Account

__all__ = ["end_process", "free_port", "last_line", "open_log", "spawn", "wait_until"]

LOG_BYTES = 10_000_000
POLL_SECONDS = 0.01


def spawn(
    argv: Sequence[str],
    *,
    folder: Path,
    folder_option: str | None,
    account: Account | None,
    log: int,
    marks: Mapping[str, str],
    keep: Sequence[int] = (),
    text: bytes = b"",
) -> subprocess.Popen[bytes]:
    """Start a server on its data `folder`, in a process group of its own.

    `text` (under 4 KiB) is its standard input.

    The folder is the working directory, and follows `folder_option` as an argument where given.
    On Linux an account that may not walk the folder's parents (/root, a private temporary folder)
    is handed it open, so that nothing has to be opened to everyone. `keep` are descriptors to
    inherit; `marks` are added to the environment.
    """
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    handed_over = account is not None and sys.platform == "linux"
    path = f"/proc/self/fd/{opened}" if handed_over else str(folder)
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    try:
        return subprocess.Popen(
            [*argv, folder_option, path] if folder_option else list(argv),
            stdin=reading,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **marks, "LC_ALL": "C"},
            start_new_session=True,
            pass_fds=(opened, *keep),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    finally:
        os.close(opened)
        os.close(reading)


def end_process(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> None:
    """Send each step's signal and wait its seconds, then kill; returns when the process is gone."""
    for number, seconds in steps:
        if process.poll() is not None:
            return
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port(wanted: int = 0) -> int:
    """A free loopback TCP port: `wanted` where nothing listens on it, else another one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            # As the servers do: connections of an earlier run that linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise OSError("no free loopback port")


def wait_until(
    condition: Callable[[], bool], seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> bool:
    """Whether `condition` came true within `seconds`; it is asked a hundred times a second."""
    deadline = monotonic() + seconds
    while not condition():
        if monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


@contextmanager
def open_log(path: Path) -> Iterator[int]:
    """The log, opened to append; one past 10 MB is put aside as `<name>.1` first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield opened
    finally:
        os.close(opened)


def last_line(log: Path, begin: int = 0) -> str:
    """The most telling line that a server wrote after byte `begin`: its last fatal one, or last."""
    with log.open("rb") as file:
        file.seek(begin)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    lines = [line for line in lines if line] or [""]
    fatal = [line for line in lines if "FATAL" in line or "error:" in line or "# " in line]
    return (fatal or lines)[-1]
