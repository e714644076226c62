"""The receiver's memory: which deliveries it has acted on, kept beside the effect itself.

A key is committed in the transaction of the handler's effect, so that neither a crash nor a power
cut can leave one without the other. What is decided, and in which order, stands here once; SQLite
and PostgreSQL (sqlite_book.py, postgres_book.py) bring a transaction and run the statements.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from threading import Lock
from typing import Any, Generic, Literal, TypeVar

from signalpost.core.instants import rfc3339
from signalpost.errors import ConfigurationError

__all__ = ["Book", "Busy", "Connected", "Effect", "Entry", "Mark", "Marked", "Reply", "Unavailable"]

Connected = TypeVar("Connected")
"""The kind of connection that a book hands to the handler."""

Standing = Literal["received", "pending_approval", "rejected"]

_FORGET_EVERY = timedelta(hours=1)

_KNOWN = "SELECT body_sha256, reply FROM signalpost_received WHERE book = ? AND delivery_id = ?"
_KNOWN_BODY = "SELECT reply FROM signalpost_received WHERE book = ? AND body_sha256 = ? LIMIT 1"
_REMEMBER = (
    "INSERT INTO signalpost_received (book, delivery_id, body_sha256, signal_id, received_at,"
    " attempt, sequence) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_KEEP_REPLY = "UPDATE signalpost_received SET reply = ? WHERE book = ? AND delivery_id = ?"
_LAST = "SELECT sequence FROM signalpost_sequences WHERE book = ? AND ordering_key = ?"
_ADVANCE = (
    "INSERT INTO signalpost_sequences (book, ordering_key, sequence, received_at)"
    " VALUES (?, ?, ?, ?) ON CONFLICT (book, ordering_key)"
    " DO UPDATE SET sequence = excluded.sequence, received_at = excluded.received_at"
)
_FORGET = (
    "DELETE FROM signalpost_received WHERE book = ? AND received_at < ?",
    "DELETE FROM signalpost_sequences WHERE book = ? AND received_at < ?",
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the handler says of a signal it has dealt with; remembered for duplicates.

    `rejected` means that the receiver looked at it and will not act on it: that is an answer too,
    and consumes the key. To refuse a signal without remembering it, raise `Refused`.
    """

    status: Standing = "received"
    message: str = ""
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """What the book keeps of one request.

    `sequence` is the request's place within `ordering_key`, None where it is not ordered.
    `by_body`: also a request with the same body under another key is a duplicate, because the
    signature does not cover the key (the canonical profile).
    """

    delivery_id: str
    body_sha256: bytes
    signal_id: str
    received_at: datetime
    ordering_key: str
    attempt: int | None = None
    sequence: int | None = None
    by_body: bool = False


class Mark(StrEnum):
    """What the book found out about a request."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    """The key is known with another body."""
    STALE = "stale"
    """A later one of the same ordering key has been acted on."""


@dataclass(frozen=True, slots=True)
class Marked:
    """The book's answer; for a duplicate, `reply` is the first one's.

    `last` is the sequence that was acted on last, where that decided the mark.
    """

    mark: Mark
    reply: Reply
    last: int | None = None


class Busy(Exception):
    """The same delivery is being dealt with, or another process holds the book."""


class Unavailable(Exception):
    """The book's database cannot be reached; nothing was done."""


Effect = Callable[[Connected, int], Reply]
"""Gets the open transaction's connection, and how many of its ordering key never came before it."""


class Book(ABC, Generic[Connected]):
    """Remembers deliveries, and runs each one's effect once, in one transaction with its key.

    All its work, the handlers' included, runs on one thread of its own, one after another; several
    processes may share a book.
    """

    def __init__(self, *, name: str, keep_days: float) -> None:
        if not keep_days >= 1:
            raise ConfigurationError("keep_days must be at least 1, better 90")
        self.name = name
        self._keep = timedelta(days=keep_days)
        self._forgotten_at: datetime | None = None
        self._under_way: set[str | bytes] = set()
        self._guard = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="signalpost-book")
        try:
            self._thread.submit(self._open).result()
        except BaseException:
            self._thread.shutdown()
            raise

    async def enter(self, entry: Entry, effect: Effect[Connected]) -> Marked:
        """Run `effect` and remember `entry`, both or neither, unless it is remembered already.

        Raises Busy where the same delivery is under way, Unavailable, and whatever `effect` raises;
        then the transaction is undone and the key is free. Cancelling the caller does not stop the
        effect.
        """
        keys: set[str | bytes] = {entry.delivery_id}
        if entry.by_body:
            keys.add(entry.body_sha256)
        with self._guard:
            if keys & self._under_way:
                raise Busy
            self._under_way |= keys
        work = self._thread.submit(self._enter, entry, effect)

        def finished(_: Future[Marked]) -> None:
            # The keys stay taken for as long as the effect runs, whatever became of the request,
            # and no longer, whatever became of its event loop.
            with self._guard:
                self._under_way -= keys

        work.add_done_callback(finished)
        return await asyncio.shield(asyncio.wrap_future(work))

    def close(self) -> None:
        """Wait for what is under way, and let go of the database."""
        self._thread.submit(self._shut)
        self._thread.shutdown(wait=True)

    def _enter(self, entry: Entry, effect: Effect[Connected]) -> Marked:
        with self._transaction(entry) as connection:
            return self._mark(connection, entry, effect)

    def _mark(self, connection: Connected, entry: Entry, effect: Effect[Connected]) -> Marked:
        self._forget(connection, entry.received_at)
        key = (self.name, entry.delivery_id)
        known = self._run(connection, _KNOWN, key)
        if known is not None:
            if bytes(known[0]) != entry.body_sha256:
                return Marked(Mark.CONFLICT, Reply())
            return Marked(Mark.DUPLICATE, _read_reply(known[1]))
        if entry.by_body:
            known = self._run(connection, _KNOWN_BODY, (self.name, entry.body_sha256))
            if known is not None:
                return Marked(Mark.DUPLICATE, _read_reply(known[0]))
        last = self._last_of_its_key(connection, entry)
        if last is not None and entry.sequence is not None and entry.sequence <= last:
            return Marked(Mark.STALE, Reply(), last)
        # Before the effect, so that a handler that wrongly commits commits the key with it.
        self._remember(connection, entry)
        missed = 0 if last is None or entry.sequence is None else entry.sequence - last - 1
        reply = effect(connection, missed)
        if not self._in_transaction(connection):
            raise RuntimeError("the handler must neither commit nor roll back")
        self._run(connection, _KEEP_REPLY, (json.dumps(asdict(reply)), *key))
        return Marked(Mark.NEW, reply)

    def _last_of_its_key(self, connection: Connected, entry: Entry) -> int | None:
        if entry.sequence is None:
            return None
        found = self._run(connection, _LAST, (self.name, entry.ordering_key))
        return None if found is None else int(found[0])

    def _remember(self, connection: Connected, entry: Entry) -> None:
        at = rfc3339(entry.received_at)
        if entry.sequence is not None:
            place = (self.name, entry.ordering_key, entry.sequence, at)
            self._run(connection, _ADVANCE, place)
        facts = (entry.body_sha256, entry.signal_id, at, entry.attempt, entry.sequence)
        self._run(connection, _REMEMBER, (self.name, entry.delivery_id, *facts))

    def _forget(self, connection: Connected, now: datetime) -> None:
        if self._forgotten_at is not None and now - self._forgotten_at < _FORGET_EVERY:
            return
        for statement in _FORGET:
            self._run(connection, statement, (self.name, rfc3339(now - self._keep)))
        self._forgotten_at = now

    @abstractmethod
    def _open(self) -> None:
        """Connect, and make the tables where they are missing. On the book's thread, as all here.

        Raises errors.BookError, and errors.ConfigurationError.
        """

    @abstractmethod
    def _shut(self) -> None:
        """Let go of the database."""

    @abstractmethod
    def _transaction(self, entry: Entry) -> AbstractContextManager[Connected]:
        """One transaction, alone with this entry's keys: committed at the end, undone by any error.

        Raises Busy where another process has one of the keys, and Unavailable.
        """

    @abstractmethod
    def _run(self, connection: Connected, statement: str, values: Sequence[Any]) -> Any:
        """Run one statement, its places marked by `?`; the first row, None where there is none."""

    @abstractmethod
    def _in_transaction(self, connection: Connected) -> bool:
        """Whether the transaction is still open."""


def _read_reply(text: str | None) -> Reply:
    if text is None:
        return Reply()
    stored = json.loads(text)
    return Reply(stored["status"], stored["message"], tuple(stored["errors"]))
