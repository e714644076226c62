"""The Celery app of this process, as its environment says.

Run it by ``signalpost worker``, or as plain Celery:
``celery -A signalpost_worker.celery worker --pool threads -Q deliver,drain``.
"""

from __future__ import annotations

import os
from pathlib import Path

from signalpost.errors import SignalpostError
from signalpost.settings import load_settings
from signalpost_worker.assembly import create_app

try:
    app = create_app(load_settings(os.environ, dotenv=Path(".env")))
except SignalpostError as error:
    raise SystemExit(f"signalpost: {error}") from None
