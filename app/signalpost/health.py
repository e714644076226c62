"""Whether a worker process does its work: what to ask, and the lines that say what is wrong.

A Redis that is away is no trouble of a worker: deliveries go on without it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from signalpost.repository.overview import Overview, overview

__all__ = ["STUCK_SECONDS", "OutboxLook", "Reading", "consumer_trouble", "outbox_trouble"]

KEEP_SECONDS = 5.0
TURN_SECONDS = 4.0
USUAL_SECONDS = 5.0
"""Nobody asks Redis whether it is there before a consumer has been silent for so long."""
STUCK_SECONDS = 60.0
"""A consumer that has read nothing for so long, from a Redis that answers, is stuck. A half-open
connection heals in 20 to 45 s; a restarted Redis is found again after 13 s."""


class OutboxLook:
    """The outbox at a glance, read at most every 5 s however many ask; safe from any thread.

    Args:
        open_engine: makes the engine, on the first look.
        monotonic: seconds.
    """

    def __init__(
        self,
        open_engine: Callable[[], Engine],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_engine = open_engine
        self._monotonic = monotonic
        self._turn = threading.Lock()
        self._engine: Engine | None = None
        self._seen: Overview | str = ""
        self._until: float | None = None

    def __call__(self) -> Overview | str:
        """Return the outbox as it stands, or a line that says why it cannot be read."""
        if not self._turn.acquire(timeout=TURN_SECONDS):
            return "the database does not answer"
        try:
            now = self._monotonic()
            if self._until is None or now >= self._until:
                self._seen = self._look()
                self._until = self._monotonic() + KEEP_SECONDS
            return self._seen
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close the connection; a later look opens one anew."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _look(self) -> Overview | str:
        try:
            if self._engine is None:
                self._engine = self._open_engine()
            with self._engine.begin() as connection:
                return overview(connection, window_hours=1)
        except (SQLAlchemyError, OSError) as trouble:
            return f"the database is away ({type(trouble).__name__})"


def outbox_trouble(seen: Overview | str) -> str | None:
    """Say what is wrong with the outbox, or nothing."""
    if isinstance(seen, str):
        return seen
    if not seen.overdue:
        return None
    oldest = seen.oldest_due_seconds or 0.0
    return f"{seen.overdue} deliveries are overdue, the oldest has been due for {oldest:.0f} s"


class Reading:
    """When a consumer last heard from Redis, and since when Redis has been there to be heard.

    ``busy`` says whether the consumer has as much as it may take: then it asks for no more.
    """

    def __init__(
        self,
        *,
        heard_at: Callable[[], float | None],
        redis_answers: Callable[[], bool],
        busy: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._heard_at = heard_at
        self._redis_answers = redis_answers
        self._busy = busy
        self._monotonic = monotonic
        self._there_since: float | None = monotonic()

    def silent_seconds(self) -> float:
        """How long the consumer has heard nothing from a Redis that answers; 0 while it is away."""
        now = self._monotonic()
        heard_at = self._heard_at()
        if heard_at is not None and now - heard_at < USUAL_SECONDS:
            self._there_since = heard_at
            return now - heard_at
        if self._busy() or not self._redis_answers():
            self._there_since = None
            return 0.0
        if self._there_since is None:
            self._there_since = now
        return now - max(self._there_since, heard_at or 0.0)


def consumer_trouble(silent_seconds: float, *, stuck_seconds: float = STUCK_SECONDS) -> str | None:
    """Say that a consumer is stuck, or nothing."""
    if silent_seconds < stuck_seconds:
        return None
    return (
        f"the consumer has heard nothing from Redis for {silent_seconds:.0f} s, though Redis "
        "answers; restart this worker"
    )
