"""The Celery app of a deliver worker whose engine dies once it runs, for test_worker_app.py."""

from __future__ import annotations

import os
from typing import Any

from celery.signals import worker_ready

from signalpost.settings import load_settings
from signalpost_worker.assembly import create_app
from signalpost_worker.runtime import Runtime

settings = load_settings(os.environ)
runtime = Runtime(settings)
app = create_app(settings, runtime)


def die() -> None:
    raise SystemExit


@worker_ready.connect(weak=False)
def ready(**_: Any) -> None:
    loop = runtime.engine._loop
    assert loop is not None
    loop.call_soon_threadsafe(die)
