"""The worker's Celery app with a wall clock that a file moves, as a step of the system's would.

Nothing else differs from `signalpost_worker.celery`: the stage runs every deliver worker on it, so
that any of them may find its clock off. The file CHAOS_CLOCK holds the seconds; without it, none.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from signalpost.clock import Clocks, wall_clock
from signalpost.settings import load_settings
from signalpost_worker.assembly import create_app
from signalpost_worker.runtime import Runtime
from tests.chaos.plan import CLOCK


def moved() -> datetime:
    """The wall clock, moved."""
    seconds = 0.0
    with suppress(OSError, ValueError):
        seconds = float(Path(os.environ[CLOCK]).read_text())
    return wall_clock() + timedelta(seconds=seconds)


settings = load_settings(os.environ)
app = create_app(settings, Runtime(settings, Clocks(wall=moved)))
