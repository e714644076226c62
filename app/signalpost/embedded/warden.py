"""The owner's hold on its warden, the process that ends a stack whose owner was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from signalpost.embedded.launching import open_log
from signalpost.embedded.marks import Ending, marks
from signalpost.errors import EmbeddedError

__all__ = ["Warden"]


class Warden:
    """Watches over every process marked with `marks(ending)` on behalf of this process.

    However this process ends, all processes so marked are ended within seconds. `keep` are
    descriptors that the warden holds until it is done: with the lock of the data folder among them
    nobody starts there while a killed owner's servers are still going down.
    """

    def __init__(self, owner: Path, log: Path, keep: Sequence[int] = ()) -> None:
        self._owner = owner
        self._log = log
        self._keep = tuple(keep)
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The warden's process id."""
        return self._process.pid

    def marks(self, ending: Ending) -> dict[str, str]:
        """The environment variables for a process that the warden is to end by `ending`."""
        return marks(self._owner, ending)

    def ensure(self) -> bool:
        """Start another warden where this one has died; whether that was so."""
        if self._process.poll() is None:
            return False
        os.close(self._pipe)
        self._process = self._start()
        return True

    def close(self) -> None:
        """End the warden, and by it whatever is still marked; returns when all are gone."""
        os.close(self._pipe)
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        reading, self._pipe = os.pipe()
        ready, told = os.pipe()
        with open_log(self._log) as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "signalpost.embedded.warden_program", self._owner],
                stdin=reading,
                stdout=told,
                stderr=log,
                cwd="/",
                start_new_session=True,
                pass_fds=self._keep,
            )
        for descriptor in (reading, told):
            os.close(descriptor)
        # From this word on a kill -9 of this process leaves nothing behind.
        answer = os.read(ready, 16)
        os.close(ready)
        if not answer:
            raise EmbeddedError(f"the warden of the servers did not start (see {self._log})")
        return process
