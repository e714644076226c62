"""What a running stack leaves in its data folder for the commands and producers that join it.

The file holds passwords and keys, so its writer (signalpost.embedded) makes it with mode 0600.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from signalpost.errors import SettingError

__all__ = ["STACK_FILE", "StackAddresses", "default_data_folder", "read_stack"]

STACK_FILE = "stack.json"
"""A JSON object: database_url, redis_url (strings), secret_keys (list of strings)."""


@dataclass(frozen=True, slots=True)
class StackAddresses:
    """Where the servers of a data folder are, and the keys of its endpoint secrets."""

    database_url: str = field(repr=False)
    redis_url: str | None = field(default=None, repr=False)
    secret_keys: tuple[str, ...] = field(default=(), repr=False)


def default_data_folder(environ: Mapping[str, str]) -> Path:
    """The per-user folder, where nobody names one; XDG's place, or the Mac's."""
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "signalpost"
    base = environ.get("XDG_DATA_HOME")
    return (Path(base) if base else home / ".local" / "share") / "signalpost"


def read_stack(folder: Path) -> StackAddresses | None:
    """The addresses of the stack in `folder`; None where no stack runs (there is no file).

    Raises SettingError for a file that cannot be read or understood.
    """
    file = folder / STACK_FILE
    try:
        found = json.loads(file.read_bytes())
        keys = found.get("secret_keys", ())
        redis_url = found.get("redis_url")
        return StackAddresses(
            database_url=str(found["database_url"]),
            redis_url=None if redis_url is None else str(redis_url),
            secret_keys=tuple(str(key) for key in keys),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SettingError(
            f"the data folder {folder} cannot be read: {error.strerror}; "
            "run as the account that started its stack"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SettingError(
            f"{file} is damaged; restart the stack with `signalpost up --data {folder}`"
        ) from None
