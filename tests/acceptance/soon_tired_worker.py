"""The Celery app of a worker that waits a fifth as long for a silent Redis, for the tests' sake."""

from __future__ import annotations

import os

from signalpost.settings import load_settings
from signalpost_worker.assembly import create_app

app = create_app(load_settings(os.environ))
_options = app.conf.broker_transport_options
for _name in ("socket_timeout", "socket_connect_timeout", "health_check_interval"):
    _options[_name] /= 5
