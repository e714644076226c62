"""The data folder of a stack: who holds it, its credentials, and what a running one tells.

`credentials.json` (mode 0600) is made once and kept: passwords, keys, the ports used last.
`stack.json` (mode 0600) is there while the stack runs: what other commands need to join it.
`lock` is held by the owner, and by its warden until the last server is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from cryptography.fernet import Fernet

from signalpost.errors import EmbeddedError
from signalpost.settings.datafolder import STACK_FILE

__all__ = ["Credentials", "DataFolder", "StackInfo", "read_stack"]

FLOWER_USER = "signalpost"


@dataclass(slots=True)
class Credentials:
    """What must stay the same from run to run; `secret_keys` decrypt the endpoints' secrets."""

    postgres_password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    redis_password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    flower_password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    secret_keys: list[str] = field(
        default_factory=lambda: [Fernet.generate_key().decode()], repr=False
    )
    postgres_port: int = 0
    redis_port: int = 0
    flower_port: int = 0


@dataclass(frozen=True, slots=True)
class StackInfo:
    """A stack as `stack.json` tells it; whoever holds this can join it.

    `pids`: owner, warden, postgres, redis. `started_at`: RFC 3339, UTC. Flower listens on
    `flower_url` where `signalpost up` runs it. `alive`: an owner holds the folder right now.
    """

    folder: Path
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    secret_keys: tuple[str, ...] = field(repr=False)
    flower_url: str
    flower_user: str
    flower_password: str = field(repr=False)
    pids: dict[str, int]
    started_at: str
    alive: bool = False


class DataFolder:
    """The paths in a data folder, its lock and its two files."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.postgres = self.path / "postgres"
        self.valkey = self.path / "valkey"
        self.logs = self.path / "logs"
        self.lock_file = self.path / "lock"
        self.stack_file = self.path / STACK_FILE
        self.credentials_file = self.path / "credentials.json"

    def lock(self, seconds: float = 30.0, monotonic: Callable[[], float] = time.monotonic) -> int:
        """Make the folder if need be and hold it; the descriptor whose closing lets it go.

        Waits up to `seconds` for the servers of a killed owner to end. Raises EmbeddedError: a
        stack runs here (its process id is named), or the folder cannot be used.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            held = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedError(
                f"{error.filename or self.path} cannot be used ({error.strerror}): "
                "choose another data folder with --data"
            ) from error
        deadline = monotonic() + seconds
        while not _locked(held, fcntl.LOCK_EX):
            owner = self._owner(held)
            # One who only looks whether a stack is alive holds the lock for microseconds.
            if (owner and psutil.pid_exists(owner)) or monotonic() > deadline:
                os.close(held)
                raise EmbeddedError(
                    f"a stack runs in {self.path} already (process {owner or 'unknown'}): "
                    "stop that one, or choose another folder with --data"
                )
            time.sleep(0.05)
        os.ftruncate(held, 0)
        os.pwrite(held, str(os.getpid()).encode(), 0)
        return held

    def is_held(self) -> bool:
        """Whether an owner, or the warden of a killed one, holds the folder."""
        try:
            probe = os.open(self.lock_file, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _locked(probe, fcntl.LOCK_SH)
        finally:
            os.close(probe)

    def credentials(self) -> Credentials:
        """The folder's credentials, made on first use. Raises EmbeddedError where damaged."""
        remedy = "restore it from a backup, or choose another folder with --data"
        try:
            return Credentials(**json.loads(self.credentials_file.read_bytes()))
        except FileNotFoundError:
            if (self.postgres / "PG_VERSION").exists():
                missing = f"{self.credentials_file} is missing, so the database beside it is locked"
                raise EmbeddedError(f"{missing}: {remedy}") from None
        except OSError as error:
            unreadable = f"{self.credentials_file} cannot be read ({error.strerror})"
            raise EmbeddedError(f"{unreadable}: run as the account that made it") from None
        except (ValueError, TypeError):
            raise EmbeddedError(f"{self.credentials_file} is damaged: {remedy}") from None
        fresh = Credentials()
        self.keep(fresh)
        return fresh

    def keep(self, credentials: Credentials) -> None:
        """Write the credentials for the next run."""
        write_private(self.credentials_file, asdict(credentials))

    def publish(self, info: StackInfo) -> None:
        """Tell other commands of the running stack."""
        facts = asdict(info) | {"folder": str(info.folder)}
        del facts["alive"]
        write_private(self.stack_file, facts)

    def _owner(self, held: int) -> int | None:
        with suppress(ValueError):
            return int(os.pread(held, 32, 0))
        return None


def read_stack(folder: Path) -> StackInfo | None:
    """The stack in `folder`, `alive` or left by a crash; None where none was left.

    Raises EmbeddedError where its file cannot be read.
    """
    place = DataFolder(folder)
    try:
        facts = json.loads(place.stack_file.read_bytes())
        keys = tuple(facts.pop("secret_keys"))
        facts["folder"] = Path(facts["folder"])
        return StackInfo(**facts, secret_keys=keys, alive=place.is_held())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise EmbeddedError(
            f"{place.stack_file} cannot be read ({error.strerror}): "
            "run as the account that started the stack"
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise EmbeddedError(
            f"{place.stack_file} is damaged: start the stack again with "
            f"`signalpost up --data {folder}`"
        ) from None


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that only this account can read, whole or not at all."""
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
