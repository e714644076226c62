"""Announcing what was enqueued in a caller's transaction, after that transaction's own end.

SQLAlchemy tells of a COMMIT before it is sent, and of a session's commit also where that is only a
savepoint's release. So the connection's COMMIT is what counts; then a task of ours watches the
transaction until it is over, and asks the database which of the deliveries are there: those of a
savepoint that was rolled back, or of a COMMIT that failed, are not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, event

from signalpost.broker import Announcement

__all__ = ["CommitWatch", "Ending"]

MOST_WAITING = 10_000


class Ending(Protocol):
    """A transaction that is on its way to its end."""

    @property
    def is_active(self) -> bool:
        """Whether it still is."""
        ...


class CommitWatch:
    """Collects announcements by the transaction they hang on, and hands them on after its commit.

    `handed_on` is called with `(transaction, announcements)` in the thread that commits, just
    before COMMIT is sent; it must not block. Nothing is kept beyond the connection's life.
    """

    def __init__(self, handed_on: Callable[[Ending, Sequence[Announcement]], None]) -> None:
        self._handed_on = handed_on
        self._watched: WeakKeyDictionary[Connection, deque[Announcement]] = WeakKeyDictionary()

    def add(self, conn: Connection, announcements: Sequence[Announcement]) -> None:
        """Announce these if and when the root transaction of `conn` commits."""
        held = self._watched.get(conn)
        if held is None:
            held = self._watched[conn] = deque(maxlen=MOST_WAITING)
            self._listen(conn)
        held.extend(announcements)

    def close(self) -> None:
        """Forget every transaction; what commits from here on is handed on to nobody.

        The listeners stay until their connection dies: another thread may be calling them at this
        moment, and its COMMIT would fail before it is sent if they were taken from under it.
        """
        self._handed_on = _to_nobody
        self._watched = WeakKeyDictionary()

    def _listen(self, conn: Connection) -> None:
        # Once for the life of the connection, which takes its listeners along.
        for name, listener in self._listeners():
            event.listen(conn, name, listener)

    def _listeners(self) -> list[tuple[str, Callable[..., None]]]:
        return [
            ("commit", self._commits),
            ("commit_twophase", self._commits),
            ("rollback", self._rolls_back),
            ("rollback_twophase", self._rolls_back),
        ]

    def _commits(self, conn: Connection, *_: object) -> None:
        held, transaction = self._watched.get(conn), conn.get_transaction()
        if held and transaction is not None:
            announcements = list(held)
            held.clear()
            self._handed_on(transaction, announcements)

    def _rolls_back(self, conn: Connection, *_: object) -> None:
        held = self._watched.get(conn)
        if held:
            held.clear()


def _to_nobody(_transaction: Ending, _announcements: Sequence[Announcement]) -> None:
    """Of a watch that is closed: nothing of the producer hangs on its listeners any more."""
