"""An embedded server of the Redis protocol (valkey), with its data on disk."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from signalpost.embedded.launching import (
    end_process,
    free_port,
    last_line,
    open_log,
    spawn,
    wait_until,
)
from signalpost.embedded.programs import Account, account_for, valkey_program
from signalpost.errors import EmbeddedError

__all__ = ["ValkeyServer"]

START_SECONDS = 60.0
CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir ./
appendonly {durable}
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
set-proc-title no
"""


@dataclass(slots=True)
class ValkeyServer:
    """One server on loopback TCP with a password.

    `folder` holds its data, `log` is its log file; `port` changes at `start` where another process
    listens on it. `password` must be free of spaces and quotes. `marks` go into its environment.
    """

    folder: Path
    log: Path
    password: str = field(repr=False)
    port: int = 0
    marks: Mapping[str, str] = field(default_factory=dict, repr=False)
    durable: bool = True
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    name = "valkey"
    stop_signal = signal.SIGTERM
    stop_seconds = 10.0

    def url(self, database: int = 0) -> str:
        """The address, its password included: `redis://...`."""
        return f"redis://:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server on its data and wait until it answers. Raises EmbeddedError."""
        account = account_for(self.folder)
        program = valkey_program(account)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if account is not None:
            os.chown(self.folder, account.uid, account.gid)
        for _ in range(3):
            self.port = free_port(self.port)
            if self._answers(program, account):
                return
        raise EmbeddedError(f"valkey finds no free port (see {self.log})")

    def stop(self) -> None:
        """End the server, its data flushed; by force after 10 s; nothing where it is down."""
        if self.process is not None:
            end_process(self.process, (self.stop_signal, self.stop_seconds))
            self.process = None

    def _answers(self, program: Path, account: Account | None) -> bool:
        """True once it answers, False when another process took the port meanwhile."""
        # On stdin, because every account of the machine can read a process's arguments.
        configuration = CONFIGURATION.format(
            port=self.port, password=self.password, durable="yes" if self.durable else "no"
        )
        with open_log(self.log) as log:
            begin = self.log.stat().st_size
            process = self.process = spawn(
                [str(program), "-"],
                folder=self.folder,
                folder_option=None,
                account=account,
                log=log,
                marks=self.marks,
                text=configuration.encode(),
            )
        wait_until(lambda: process.poll() is not None or self._ready(), START_SECONDS)
        if process.poll() is None and self._ready():
            return True
        self.stop()
        reason = last_line(self.log, begin)
        if "Address already in use" in reason or "Failed listening" in reason:
            return False
        raise EmbeddedError(f"valkey did not start: {reason} (see {self.log})")

    def _ready(self) -> bool:
        # While it loads its data it answers -LOADING.
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as talk:
            talk.sendall(b"AUTH %s\r\nPING\r\n" % self.password.encode())
            answer = b""
            while answer.count(b"\r\n") < 2 and (received := talk.recv(256)):
                answer += received
            return answer == b"+OK\r\n+PONG\r\n"
        return False
