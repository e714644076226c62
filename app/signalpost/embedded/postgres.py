"""An embedded PostgreSQL server: prepared once, started, stopped, its crashes recovered from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from signalpost.embedded.launching import (
    end_process,
    free_port,
    last_line,
    open_log,
    spawn,
    wait_until,
)
from signalpost.embedded.programs import Account, account_for, postgres_programs
from signalpost.errors import EmbeddedError

__all__ = ["PostgresServer"]

USER = DATABASE = "signalpost"
# Recovery after a crash replays the log first; a server that is still at it is not given up.
START_SECONDS = 120.0
LEFTOVER_SECONDS = 10.0
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    # A constraint's detail would quote a row, and the statement may hold what is private.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_checkpoints": "off",
}
# For tests: a crash of the machine may lose data. A connection given up in mid-handshake would
# otherwise keep a database from being dropped for a minute.
CARELESS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "authentication_timeout": "5s",
    "max_wal_size": "256MB",
}


@dataclass(slots=True)
class PostgresServer:
    """One server on loopback TCP with a password.

    `folder` holds its data, `log` is its log file; `port` changes at `start` where another process
    listens on it. `marks` go into its environment, so that it can be recognised as ours.
    """

    folder: Path
    log: Path
    password: str = field(repr=False)
    port: int = 0
    marks: Mapping[str, str] = field(default_factory=dict, repr=False)
    durable: bool = True
    process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    name = "PostgreSQL"
    # "Fast": running transactions are rolled back, the data is flushed.
    stop_signal = signal.SIGINT
    stop_seconds = 30.0

    def url(self, database: str = DATABASE) -> str:
        """The address, its password included: `postgresql://...`."""
        secret = quote(self.password, safe="")
        return f"postgresql://{USER}:{secret}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Prepare the data folder if it is new, start the server, wait until it answers.

        Raises EmbeddedError: programs missing, data of another major version, no start.
        """
        account = account_for(self.folder)
        programs = postgres_programs(account)
        if (self.folder / "PG_VERSION").exists():
            self._refuse_other_version(programs)
            self._end_leftovers()
        else:
            self._prepare(programs, account)
        for _ in range(3):
            self.port = free_port(self.port)
            if self._answers(programs, account):
                return self._ensure_database()
        raise EmbeddedError(f"PostgreSQL finds no free port (see {self.log})")

    def stop(self) -> None:
        """End the server: fast, then immediately, then by force; nothing where it is down."""
        if self.process is not None:
            end_process(self.process, (self.stop_signal, self.stop_seconds), (signal.SIGQUIT, 5.0))
            self.process = None

    def _refuse_other_version(self, programs: Path) -> None:
        found = (self.folder / "PG_VERSION").read_text().strip()
        answer = subprocess.run(
            [programs / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        ours = answer.stdout.split()[-1].split(".")[0]
        if found != ours:
            raise EmbeddedError(
                f"{self.folder} was made by PostgreSQL {found} and this is PostgreSQL {ours}: dump "
                "it with the old version and restore it here, or choose another folder with --data"
            )

    def _end_leftovers(self) -> None:
        """End what a crash left on this data, so that the server's own interlock lets us in.

        The children of a killed server stay until they next look up; and after a reboot another
        program may have the process id that postmaster.pid names, which PostgreSQL would respect.
        """
        pid_file = self.folder / "postmaster.pid"
        if not pid_file.exists():
            return
        left = [process for process in psutil.process_iter() if self._works_here(process)]
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        if wait_until(lambda: not any(map(self._works_here, left)), LEFTOVER_SECONDS):
            pid_file.unlink(missing_ok=True)

    def _works_here(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error, OSError):
            return process.cwd() == str(self.folder) and process.name().startswith("postgres")
        return False

    def _prepare(self, programs: Path, account: Account | None) -> None:
        # In a folder beside it, renamed when complete: a crash here leaves no half-made database.
        fresh = self.folder.with_name(f"{self.folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700, parents=True)
        reading, writing = os.pipe()
        if account is not None:
            os.chown(fresh, account.uid, account.gid)
            os.fchown(reading, account.uid, account.gid)
        os.write(writing, self.password.encode() + b"\n")
        os.close(writing)
        argv = [str(programs / "initdb"), f"--username={USER}", f"--pwfile=/dev/fd/{reading}"]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        # The usual 4096 iterations cost a client more than the rest of a connection does.
        argv += [] if self.durable else ["--no-sync", "--set=scram_iterations=1"]
        with open_log(self.log) as log:
            made = spawn(
                argv,
                folder=fresh,
                folder_option="-D",
                account=account,
                log=log,
                marks=self.marks,
                keep=(reading,),
            )
            os.close(reading)
        if made.wait() != 0:
            reason = last_line(self.log)
            raise EmbeddedError(f"PostgreSQL did not prepare its data: {reason} (see {self.log})")
        with suppress(FileNotFoundError):
            self.folder.rmdir()
        fresh.rename(self.folder)

    def _answers(self, programs: Path, account: Account | None) -> bool:
        """True once it answers, False when another process took the port meanwhile."""
        settings = SETTINGS | ({} if self.durable else CARELESS) | {"port": str(self.port)}
        argv = [str(programs / "postgres")]
        for key, value in settings.items():
            argv += ["-c", f"{key}={value}"]
        with open_log(self.log) as log:
            begin = self.log.stat().st_size
            process = self.process = spawn(
                argv,
                folder=self.folder,
                folder_option="-D",
                account=account,
                log=log,
                marks=self.marks,
            )
        wait_until(lambda: process.poll() is not None or self._ready(), START_SECONDS)
        if process.poll() is None and self._ready():
            return True
        self.stop()
        reason = last_line(self.log, begin)
        if "could not create any TCP/IP sockets" in reason:
            return False
        raise EmbeddedError(f"PostgreSQL did not start: {reason} (see {self.log})")

    def _ready(self) -> bool:
        # The eighth line of postmaster.pid is its status, the first its process id; pg_ctl -w
        # reads the same.
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        ours = self.process is not None and lines[:1] == [str(self.process.pid)]
        return ours and len(lines) >= 8 and lines[7].strip() == "ready"

    def _ensure_database(self) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            known = connection.execute("select 1 from pg_database where datname = %s", [DATABASE])
            if known.fetchone() is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
