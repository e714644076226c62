"""A word to the owner, through the alert outbox: stored now, sent by the ops worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection

from signalpost.core.signals import Signal
from signalpost.errors import AlertError, EnqueueError, EnqueueUnknown, SignalpostError
from signalpost.producer.background import Background
from signalpost.producer.lifetime import Lifetime
from signalpost.producer.writing import Attempt
from signalpost.repository.owner_alerts import store_owner_alert
from signalpost.settings import Settings, load_settings

__all__ = [
    "send_owner_alert",
    "send_owner_alert_async",
    "send_signal_delivery_error",
    "send_signal_delivery_error_async",
]

OWNER, DELIVERY_ERROR = "owner", "delivery_error"
MOST_CHARACTERS = 2000

Work = Callable[[Connection, float], int]


def send_owner_alert(
    text: str,
    *,
    database_url: str | None = None,
    data: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
    timeout: float = 2.0,
) -> int:
    """Store `text` (1 to 2000 characters) as an alert to the operator; its id.

    When this returns, the alert is in the outbox: the ops worker sends it by Telegram, and tries
    again until it has a receipt. The same text again, while the first is unsent, is that one. The
    database is found as by `Producer`; `timeout` (seconds) bounds the call. Put nothing private
    into it: it is sent as it is.

    Raises AlertError where it was not stored (the database is away, too slow, or not migrated), and
    ConfigurationError.
    """
    return _store(_note(text), database_url, data, environ, timeout)


async def send_owner_alert_async(
    text: str,
    *,
    database_url: str | None = None,
    data: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
    timeout: float = 2.0,
) -> int:
    """`send_owner_alert` for a caller on an event loop, which is never blocked."""
    return await _store_async(_note(text), database_url, data, environ, timeout)


def send_signal_delivery_error(
    signal_id: UUID | str | Signal,
    error: BaseException | str,
    attempts: int,
    *,
    database_url: str | None = None,
    data: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
    timeout: float = 2.0,
) -> int:
    """Store an alert that a signal was not delivered after so many attempts; its id.

    Of an error of ours its text is told, of any other its class, since its text may hold anything;
    a text of your own is told as it is. Otherwise as `send_owner_alert`.
    """
    work = _delivery_error(signal_id, error, attempts)
    return _store(work, database_url, data, environ, timeout)


async def send_signal_delivery_error_async(
    signal_id: UUID | str | Signal,
    error: BaseException | str,
    attempts: int,
    *,
    database_url: str | None = None,
    data: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
    timeout: float = 2.0,
) -> int:
    """`send_signal_delivery_error` for a caller on an event loop, which is never blocked."""
    work = _delivery_error(signal_id, error, attempts)
    return await _store_async(work, database_url, data, environ, timeout)


def _note(text: str) -> Work:
    if not text.strip() or len(text) > MOST_CHARACTERS:
        raise AlertError(f"an alert's text must have 1 to {MOST_CHARACTERS} characters")
    return _work(OWNER, {"text": text})


def _delivery_error(
    signal_id: UUID | str | Signal, error: BaseException | str, attempts: int
) -> Work:
    named = signal_id.id if isinstance(signal_id, Signal) else signal_id
    if isinstance(error, SignalpostError):
        told = f"{type(error).__name__}: {error}"
    else:
        told = error if isinstance(error, str) else type(error).__name__
    details = {"signal": str(named)[:80], "attempts": str(attempts), "error": told[:500]}
    return _work(DELIVERY_ERROR, details)


def _work(kind: str, details: Mapping[str, str]) -> Work:
    def work(conn: Connection, _: float) -> int:
        return store_owner_alert(conn, kind=kind, details=details)

    return work


def _store(
    work: Work,
    database_url: str | None,
    data: Path | str | None,
    environ: Mapping[str, str],
    timeout: float,
) -> int:
    attempt = Attempt(timeout, "alert")
    outbox = _outbox(database_url, data, environ)
    with _told_as_alerts():
        return outbox.run(work, attempt)


async def _store_async(
    work: Work,
    database_url: str | None,
    data: Path | str | None,
    environ: Mapping[str, str],
    timeout: float,
) -> int:
    attempt = Attempt(timeout, "alert")
    outbox = _outbox(database_url, data, environ)
    with _told_as_alerts():
        return await outbox.run_async(work, attempt)


@contextmanager
def _told_as_alerts() -> Iterator[None]:
    try:
        yield
    except EnqueueUnknown:
        raise AlertError(
            "the connection broke while the alert was being stored, so it may or may not come; "
            "sent again, it may come twice"
        ) from None
    except EnqueueError as error:
        raise AlertError(f"the alert was not stored: {error}") from None


def _outbox(
    database_url: str | None, data: Path | str | None, environ: Mapping[str, str]
) -> Background:
    given = {"SIGNALPOST_DATABASE_URL": database_url} if database_url else {}
    folder = None if data is None else Path(data)
    settings = load_settings({**environ, **given}, data_folder=folder)
    # The ops worker asks PostgreSQL each second, so Redis needs no telling.
    return _lifetime(settings.model_copy(update={"redis_url": None})).background()


@lru_cache(maxsize=8)
def _lifetime(settings: Settings) -> Lifetime:
    """Kept, so that not each of many alerts opens a connection; ends with the process."""
    return Lifetime(settings)
