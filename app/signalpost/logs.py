"""One way of logging for every process: UTC, level, logger, then key=value words."""

from __future__ import annotations

import logging
import time
import traceback

LINE = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"
MOMENT = "%Y-%m-%dT%H:%M:%S"

_TALKATIVE = {
    # These print whole URLs, and Telegram's hold the token.
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "aiohttp": logging.WARNING,
    "telegram": logging.WARNING,
    # Two lines a message at INFO, a traceback for each one handed back at shutdown; our own line
    # already says more.
    "celery.app.trace": logging.ERROR,
    "celery.worker.strategy": logging.WARNING,
    "alembic": logging.WARNING,
}


def place(error: BaseException) -> str:
    """Where an error was raised, for a line that must not show its text: that may be private."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}:{frames[-1].lineno}" if frames else "unknown"


def configure_logging(level: int = logging.INFO) -> None:
    """Log to standard error in the common form, and quiet the libraries that say too much."""
    handler = logging.StreamHandler()
    formatter = logging.Formatter(LINE, datefmt=MOMENT)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least in _TALKATIVE.items():
        logging.getLogger(name).setLevel(max(least, level))
