"""The Celery app of a worker that ends after 6 s without an answer, for test_worker_pages.py."""

from __future__ import annotations

import os

from signalpost.settings import load_settings
from signalpost_worker.assembly import create_app
from signalpost_worker.runtime import Runtime

settings = load_settings(os.environ)
runtime = Runtime(settings, stuck_seconds=6, look_seconds=1)
app = create_app(settings, runtime)
