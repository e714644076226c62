"""PostgreSQL and valkey under one data folder: started together, kept running, ended together."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from signalpost.embedded.folder import FLOWER_USER, Credentials, DataFolder, StackInfo, read_stack
from signalpost.embedded.launching import free_port
from signalpost.embedded.marks import Ending, end_marked
from signalpost.embedded.postgres import PostgresServer
from signalpost.embedded.restarts import Restarts
from signalpost.embedded.valkey import ValkeyServer
from signalpost.embedded.warden import Warden
from signalpost.errors import EmbeddedError

__all__ = ["Stack"]

logger = logging.getLogger(__name__)
WATCH_SECONDS = 0.1


class Stack:
    """The running servers of a data folder; a context manager that ends them.

    A server that dies is started again on its port and data. When this process is killed, its
    warden ends the servers and all else that carries `marks`.
    """

    def __init__(self, folder: DataFolder, lock: int, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._lock = lock
        self._say = say
        self._ending = threading.Event()
        self._publishing = threading.Lock()
        self._started_at = datetime.now(UTC).isoformat()
        self.credentials: Credentials = folder.credentials()
        leftovers = end_marked(folder.path, longest_seconds=10.0)
        if leftovers:
            say(f"ended {leftovers} processes that an earlier run had left behind")
        self.warden = Warden(folder.path, folder.logs / "warden.log", keep=(lock,))
        self.postgres = PostgresServer(
            folder.postgres,
            folder.logs / "postgres.log",
            self.credentials.postgres_password,
            self.credentials.postgres_port,
            self.warden.marks(_ending_of(PostgresServer)),
        )
        self.valkey = ValkeyServer(
            folder.valkey,
            folder.logs / "valkey.log",
            self.credentials.redis_password,
            self.credentials.redis_port,
            self.warden.marks(_ending_of(ValkeyServer)),
        )
        self._watchers = [
            threading.Thread(target=self._watch, args=(server,), name=f"watch-{server.name}")
            for server in (self.postgres, self.valkey)
        ]

    @classmethod
    def start(cls, folder: Path, *, say: Callable[[str], None] | None = None) -> Stack:
        """Start the servers on the data in `folder`, or on new data; `say` hears what happens.

        Raises EmbeddedError, in one line: the folder is in use or cannot be used, its data is of
        another PostgreSQL version, its credentials are damaged, a server did not start.
        """
        place = DataFolder(folder)
        lock = place.lock()
        try:
            stack = cls(place, lock, say or (lambda text: logger.info("%s", text)))
        except BaseException:
            os.close(lock)
            raise
        try:
            stack._begin()
        except BaseException:
            stack.stop()
            raise
        return stack

    @staticmethod
    def attach(folder: Path) -> StackInfo:
        """The stack that runs in `folder`. Raises EmbeddedError where none does."""
        info = read_stack(folder)
        if info is None or not info.alive:
            raise EmbeddedError(
                f"no stack runs in {folder}: start it with `signalpost up --data {folder}`"
            )
        return info

    @property
    def info(self) -> StackInfo:
        """The addresses, keys and process ids as they are now."""
        servers = {"postgres": self.postgres.process, "redis": self.valkey.process}
        running = {name: process.pid for name, process in servers.items() if process is not None}
        return StackInfo(
            folder=self._folder.path,
            database_url=self.postgres.url(),
            redis_url=self.valkey.url(),
            secret_keys=tuple(self.credentials.secret_keys),
            flower_url=f"http://127.0.0.1:{self.credentials.flower_port}",
            flower_user=FLOWER_USER,
            flower_password=self.credentials.flower_password,
            pids={"owner": os.getpid(), "warden": self.warden.pid, **running},
            started_at=self._started_at,
            alive=True,
        )

    def use_flower_port(self, port: int) -> None:
        """Tell the world, now and after a restart, that Flower listens on `port`."""
        self.credentials.flower_port = port
        self._publish()

    def marks(self, ending: Ending) -> dict[str, str]:
        """The environment variables of a process that must not outlive this stack."""
        return self.warden.marks(ending)

    def stop(self) -> None:
        """End the servers, valkey first, and let the folder go. Stopping twice does nothing."""
        if self._ending.is_set():
            return
        self._ending.set()
        for server in (self.valkey, self.postgres):
            # So that a start that is under way gives up instead of being waited for.
            if server.process is not None:
                server.process.send_signal(server.stop_signal)
        for watcher in self._watchers:
            if watcher.is_alive():
                watcher.join()
        try:
            self.valkey.stop()
            self.postgres.stop()
        finally:
            with suppress(FileNotFoundError):
                self._folder.stack_file.unlink()
            self.warden.close()
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _begin(self) -> None:
        self.postgres.start()
        self.valkey.start()
        self.credentials.flower_port = free_port(self.credentials.flower_port)
        self._publish()
        for watcher in self._watchers:
            watcher.start()

    def _publish(self) -> None:
        with self._publishing:
            self.credentials.postgres_port = self.postgres.port
            self.credentials.redis_port = self.valkey.port
            self._folder.keep(self.credentials)
            self._folder.publish(self.info)

    def _watch(self, server: PostgresServer | ValkeyServer) -> None:
        restarts = Restarts()
        since = time.monotonic()
        while not self._ending.wait(WATCH_SECONDS):
            if server is self.postgres and self.warden.ensure():
                self._say("the warden had died and was started again")
                self._publish()
            if server.process is not None and server.process.poll() is None:
                continue
            code = None if server.process is None else server.process.returncode
            # The first restart of one that had settled comes at once: everything waits for it.
            delay = restarts.delay(time.monotonic() - since)
            self._say(f"{server.name} ended (exit code {code}); starting it again")
            if restarts.deaths > 1 and self._ending.wait(delay):
                return
            since = time.monotonic()
            try:
                server.start()
                self._publish()
                self._say(f"{server.name} runs again")
            except (EmbeddedError, OSError) as error:
                self._say(str(error))


def _ending_of(server: type[PostgresServer | ValkeyServer]) -> Ending:
    return Ending(tier=0, number=server.stop_signal, grace_seconds=server.stop_seconds)
