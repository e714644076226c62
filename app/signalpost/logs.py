"""One way of logging for every process: a line of text with key=value words, or one of JSON.

What an attempt's task says about itself by :func:`speak_of` stands on every line that is logged in
that task, by whatever module, so that one id finds them all.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime

__all__ = ["Seldom", "configure_logging", "place", "speak_of"]

LINE = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"
MOMENT = "%Y-%m-%dT%H:%M:%S"

_TALKATIVE = {
    # These print whole URLs, and Telegram's hold the token.
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "aiohttp": logging.WARNING,
    "telegram": logging.WARNING,
    "urllib3": logging.WARNING,
    "tornado.access": logging.WARNING,
    # Statements with rows in them; on asyncio's debug level, what coroutines were called with.
    "sqlalchemy": logging.WARNING,
    "psycopg": logging.WARNING,
    "asyncio": logging.WARNING,
    # Whole messages and commands.
    "kombu": logging.WARNING,
    "redis": logging.WARNING,
    # Two lines a message at INFO, a traceback for each one handed back at shutdown; our own line
    # already says more.
    "celery.app.trace": logging.ERROR,
    "celery.worker.strategy": logging.WARNING,
    "alembic": logging.WARNING,
}

_subject: ContextVar[Mapping[str, object]] = ContextVar("signalpost_log_subject")
_NOTHING: Mapping[str, object] = {}


def speak_of(**facts: object) -> None:
    """Put these ids and labels on every line that the running task logs from now on."""
    _subject.set(facts)


class Seldom:
    """Lets a line through at its trouble's beginning, then once in so many seconds while it lasts.

    What is tried several times a second would else fill the log that an operator reads meanwhile.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._told_at: float | None = None

    def lets(self, now: float) -> bool:
        """Whether to say it; `now` are seconds of a clock that only goes forward."""
        if self._told_at is not None and now < self._told_at + self._seconds:
            return False
        self._told_at = now
        return True

    def over(self) -> None:
        """The trouble is over: the next one is news at once."""
        self._told_at = None


class Without(logging.Filter):
    """Drops every record that would write a secret, whatever level somebody has set."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._secret = secret

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is free of the secret."""
        return self._secret not in record.getMessage()


def place(error: BaseException) -> str:
    """Where an error was raised, for a line that must not show its text: that may be private."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].name}:{frames[-1].lineno}" if frames else "unknown"


def configure_logging(level: int = logging.INFO, *, as_json: bool = False) -> None:
    """Log to standard error, and quiet the libraries that say too much.

    `as_json`: each line is a JSON object with `time` (RFC 3339, UTC), `level`, `logger`, `message`,
    and the ids and labels of what it is about.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if as_json else _TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least in _TALKATIVE.items():
        logging.getLogger(name).setLevel(max(least, level))


class _TextLines(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(LINE, datefmt=MOMENT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record)
        if "facts" in record.__dict__:
            return line  # they stand in the message
        missing = [
            f" {name}={value}"
            for name, value in _subject.get(_NOTHING).items()
            if f"{name}=" not in record.message
        ]
        return line + "".join(missing)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        facts: Mapping[str, object] = record.__dict__.get("facts") or _subject.get(_NOTHING)
        for name, value in facts.items():
            line.setdefault(name, value if isinstance(value, int | float) else str(value))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
