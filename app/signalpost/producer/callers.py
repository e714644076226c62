"""Enqueueing inside a transaction of the caller's, in the database that holds the outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakSet

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import StatementError, UnboundExecutionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from signalpost.errors import EnqueueError, WrongDatabase
from signalpost.models import SignalRow
from signalpost.producer.lifetime import Lifetime
from signalpost.producer.preparing import announcements
from signalpost.producer.writing import Attempt
from signalpost.repository.identity import DatabaseIdentity, database_identity
from signalpost.repository.recognising import NewSignal, Stored

__all__ = ["AsyncTarget", "CallersTransactions", "Target", "Work"]

Target = Session | scoped_session[Session] | Connection
AsyncTarget = AsyncSession | async_scoped_session[AsyncSession] | AsyncConnection
Work = Callable[[Connection, float | None], list[Stored]]

ASK_SECONDS = 2.0


class CallersTransactions:
    """Stores signals in transactions that belong to somebody else, and has them announced."""

    def __init__(self, lifetime: Lifetime) -> None:
        self._lifetime = lifetime
        self._ours: DatabaseIdentity | None = None
        # Asked once for each engine: it leads to the same place for ever.
        self._known: WeakSet[Engine] = WeakSet()

    def store(self, target: Target, new: NewSignal, work: Work) -> Stored:
        """Do `work` in the caller's transaction. Raises WrongDatabase, and what `work` raises."""
        cached = self._ours
        try:
            return self._store(target, new, work, cached or self._ask())
        except WrongDatabase:
            # Our own server may have been restarted since it was asked.
            if cached is None or self._ask() == cached:
                raise
        return self._store(target, new, work, self._ours)

    async def store_async(self, target: AsyncTarget, new: NewSignal, work: Work) -> Stored:
        """The same without blocking the caller's event loop."""
        cached = self._ours
        held = target() if isinstance(target, async_scoped_session) else target
        if not isinstance(held, AsyncSession | AsyncConnection):
            raise _not_taken(target)
        try:
            ours = cached or await self._ask_async()
            return await held.run_sync(self._store, new, work, ours)
        except WrongDatabase:
            if cached is None or await self._ask_async() == cached:
                raise
        return await held.run_sync(self._store, new, work, self._ours)

    def _store(
        self, target: object, new: NewSignal, work: Work, ours: DatabaseIdentity | None
    ) -> Stored:
        with _without_parameters():
            conn = _connection_of(target)
            _check_transactional(conn)
            if conn.engine not in self._known:
                _check(database_identity(conn), ours)
                self._known.add(conn.engine)
            [stored] = work(conn, None)
        self._lifetime.background().watch.add(conn, announcements([new], [stored]))
        return stored

    def _ask(self) -> DatabaseIdentity:
        background = self._lifetime.background()
        self._ours = background.run(_identity, Attempt(ASK_SECONDS))
        return self._ours

    async def _ask_async(self) -> DatabaseIdentity:
        background = self._lifetime.background()
        self._ours = await background.run_async(_identity, Attempt(ASK_SECONDS))
        return self._ours


def _identity(conn: Connection, _: float) -> DatabaseIdentity:
    return database_identity(conn)


def _check(here: DatabaseIdentity, ours: DatabaseIdentity | None) -> None:
    if ours is None or here == ours:
        return
    elsewhere = " of another server" if here.name == ours.name else ""
    raise WrongDatabase(
        f"the session is bound to the database {here.name!r}{elsewhere}, the outbox is in "
        f"{ours.name!r}; pass a session that is bound to it"
    )


def _connection_of(target: object) -> Connection:
    found = target() if isinstance(target, scoped_session) else target
    if isinstance(found, Session):
        try:
            # By table, for sessions that are bound to several databases.
            found = found.connection(bind_arguments={"clause": SignalRow.__table__})
        except UnboundExecutionError:
            raise WrongDatabase(
                "the session is bound to no database for the outbox's tables; "
                "bind it to the one that holds them"
            ) from None
    if not isinstance(found, Connection):
        raise _not_taken(target)
    if found.dialect.name != "postgresql":
        raise WrongDatabase(
            f"the session is bound to a {found.dialect.name} database; "
            "bind it to the PostgreSQL database that holds the outbox"
        )
    return found


def _check_transactional(conn: Connection) -> None:
    driver = conn.connection.dbapi_connection
    if driver is not None and conn.dialect.detect_autocommit_setting(driver):
        raise EnqueueError(
            "the session's connection is in AUTOCOMMIT mode, where no rollback could take the "
            "signal back, and nothing was written; use a transaction, or enqueue()"
        )


def _not_taken(target: object) -> TypeError:
    return TypeError(
        "enqueue_in takes a Session or a Connection of SQLAlchemy, and enqueue_in_async their "
        f"asyncio twins; this is a {type(target).__name__}"
    )


@contextmanager
def _without_parameters() -> Iterator[None]:
    """Keep a signal's body out of the text of errors that the caller's own engine raises."""
    try:
        yield
    except StatementError as error:
        error.hide_parameters = True
        error.params = None
        raise
