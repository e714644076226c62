"""The Celery app of a worker that calls its consumer stuck after 6 s, for test_worker_pages.py."""

from __future__ import annotations

import os

from signalpost.settings import load_settings
from signalpost_worker.assembly import create_app
from signalpost_worker.runtime import Runtime
from signalpost_worker.watching import Watching

settings = load_settings(os.environ)
runtime = Runtime(settings)
runtime.watching = Watching(settings, runtime.counting, runtime.engine, stuck_seconds=6)
app = create_app(settings, runtime)
