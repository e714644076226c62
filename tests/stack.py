"""Real servers for tests: one PostgreSQL and one valkey a folder, ended with the test run.

A warden watches over them, so that a killed run leaves nothing behind either.
"""

from __future__ import annotations

import atexit
import secrets
import tempfile
from functools import cache
from pathlib import Path

from signalpost.embedded.marks import Ending
from signalpost.embedded.postgres import PostgresServer
from signalpost.embedded.valkey import ValkeyServer
from signalpost.embedded.warden import Warden

__all__ = ["postgres_in", "redis_in", "start_postgres", "start_redis", "stop_all", "warden"]

_running: dict[Path, PostgresServer | ValkeyServer] = {}


@cache
def warden() -> Warden:
    """The warden of this test process; whatever carries its marks ends with the process."""
    folder = Path(tempfile.mkdtemp(prefix="signalpost-tests-"))
    return Warden(folder, folder / "warden.log")


def postgres_in(folder: Path, *, durable: bool = False) -> PostgresServer:
    """A started PostgreSQL with its data in `folder`; fast rather than crash-proof by default."""
    server = PostgresServer(
        folder / "postgres",
        folder / "postgres.log",
        secrets.token_urlsafe(12),
        marks=warden().marks(Ending(tier=0, number=PostgresServer.stop_signal)),
        durable=durable,
    )
    server.start()
    _running[server.folder] = server
    return server


def redis_in(folder: Path, *, durable: bool = False) -> ValkeyServer:
    """A started valkey with its data in `folder`; nothing is written to disk by default."""
    server = ValkeyServer(
        folder / "valkey",
        folder / "valkey.log",
        secrets.token_urlsafe(12),
        marks=warden().marks(Ending(tier=0, number=ValkeyServer.stop_signal)),
        durable=durable,
    )
    server.start()
    _running[server.folder] = server
    return server


def start_postgres(folder: Path) -> str:
    """The address, password included, of a PostgreSQL started in `folder` for this test run."""
    return postgres_in(folder).url()


def start_redis(folder: Path) -> str:
    """The address, password included, of a valkey started in `folder` for this test run."""
    return redis_in(folder).url()


def stop_all() -> None:
    """End every server that was started here, the warden last."""
    while _running:
        _running.popitem()[1].stop()
    if warden.cache_info().currsize:
        warden().close()
        warden.cache_clear()


atexit.register(stop_all)
