"""Environments of the peers: one each, pinned, made once under build/bench/venvs."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from signalpost.embedded.launching import last_line

__all__ = ["PEERS", "installed"]

PEERS = Path(__file__).parent / "peers"


def installed(name: str, folder: Path, say: Callable[[str], None]) -> Path:
    """The interpreter of this peer's environment, made first where it is not there yet.

    pip takes its index and options from the environment and its own files. Raises SystemExit with
    one line where it cannot install.
    """
    pins = PEERS / f"{name}.txt"
    place = folder / name
    python = place / "bin" / "python"
    stamp = place / "installed"
    wanted = sha256(pins.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"installing {name} into {place}")
    venv.create(place, with_pip=True, clear=True)
    log = place / "pip.log"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    with log.open("wb") as output:
        code = subprocess.run(
            [*pip, "--no-deps", "-r", str(pins)], stdout=output, stderr=output, check=False
        ).returncode
    if code:
        raise SystemExit(f"{name} cannot be installed: {last_line(log)} (see {log})")
    stamp.write_text(wanted)
    return python
