"""Embedded servers: PostgreSQL and valkey from installed wheels, their data in one folder.

`Stack.start(folder)` starts them, `Stack.attach(folder)` finds those that run. They need the
extra `signalpost[stack]`. docs/adr/0005-embedded-servers.md says why they are made as they are.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signalpost.embedded.folder import StackInfo, read_stack
    from signalpost.embedded.marks import Ending
    from signalpost.embedded.stack import Stack
    from signalpost.embedded.warden import Warden
    from signalpost.settings.datafolder import default_data_folder

__all__ = ["Ending", "Stack", "StackInfo", "Warden", "default_data_folder", "read_stack"]

_HOMES = {
    "Ending": "signalpost.embedded.marks",
    "Stack": "signalpost.embedded.stack",
    "StackInfo": "signalpost.embedded.folder",
    "Warden": "signalpost.embedded.warden",
    "default_data_folder": "signalpost.settings.datafolder",
    "read_stack": "signalpost.embedded.folder",
}


def __getattr__(name: str) -> object:
    # On demand, since the warden's own process passes through here and must be up in no time.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
