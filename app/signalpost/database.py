"""Engines, migrations and the schema check: how PostgreSQL is reached, not what it is asked."""

from __future__ import annotations

import codecs
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from signalpost.errors import SchemaError
from signalpost.models import SCHEMA
from signalpost.sessions import is_lock_timeout, limit_idleness, settle_on
from signalpost.settings import driver_url

__all__ = [
    "DATABASE_TROUBLE",
    "REVISION",
    "async_engine",
    "check_schema",
    "is_lock_timeout",
    "load_driver",
    "migrate",
    "migrations_folder",
    "password_free",
    "sync_engine",
]

REVISION = "0008"
"""The migration that this code was written for; a test holds it to the newest file there is."""

DATABASE_TROUBLE = (SQLAlchemyError, OSError, TimeoutError)
"""What a database that is away, slow or restarting raises."""

_MIGRATION_LOCK = 0x7369676E616C  # "signal": one advisory lock for all migrating processes
_GIVEN_WAY_SECONDS = 1.0
"""The pause between two tries to lock all tables: others' turn, several times what a try takes."""
_HIDDEN = ("password", "sslpassword", "passfile")


def sync_engine(
    url: str,
    *,
    connect_timeout: float = 5,
    busy: bool = False,
    patient: bool = False,
    **limits: Any,
) -> Engine:
    """An engine on `url` for blocking callers; `limits` are SQLAlchemy's pool arguments.

    `connect_timeout` is in seconds. What the URL's query says about the connection wins.
    `busy` is for whoever asks the same few statements again and again, each in a short transaction
    of its own (see sessions.py). Others' sessions are limited to short silences as well, unless
    `patient`: for one long transaction in which this process has much to do itself.
    """
    parsed = make_url(driver_url(url))
    engine = create_engine(parsed, **_engine_args(parsed, connect_timeout, limits))
    event.listen(engine, "connect", _adapt)
    if busy:
        settle_on(engine)
    elif not patient:
        limit_idleness(engine)
    return engine


def async_engine(
    url: str, *, connect_timeout: float = 5, busy: bool = False, **limits: Any
) -> AsyncEngine:
    """The same as `sync_engine` for asyncio; make it in the process and loop that use it."""
    parsed = make_url(driver_url(url))
    engine = create_async_engine(parsed, **_engine_args(parsed, connect_timeout, limits))
    event.listen(engine.sync_engine, "connect", _adapt)
    if busy:
        settle_on(engine.sync_engine)
    else:
        limit_idleness(engine.sync_engine)
    return engine


def load_driver() -> None:
    """Import all that the first connection would: the driver, and what encodes a host's name."""
    from signalpost.moments import Moments  # noqa: F401, PLC0415 - loads the driver

    codecs.lookup("idna")


def _adapt(connection: Any, _: object) -> None:
    from signalpost.moments import Moments  # noqa: PLC0415 - loads the driver

    driver = getattr(connection, "driver_connection", connection)
    driver.adapters.register_loader("timestamptz", Moments)


def _engine_args(url: URL, connect_timeout: float, limits: dict[str, Any]) -> dict[str, Any]:
    pool = {} if "poolclass" in limits else {"pool_size": 5, "max_overflow": 5, "pool_timeout": 5}
    return {
        "connect_args": _connect_args(url, connect_timeout),
        # An error's text must not quote a signal's body.
        "hide_parameters": True,
        # Whatever the server's default: the statements that write are written for this one.
        "isolation_level": "READ COMMITTED",
        # Saves looking for a type that is not used, on every first connection.
        "use_native_hstore": False,
        **pool,
        **limits,
    }


def _connect_args(url: URL, connect_timeout: float) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "application_name": "signalpost",
        "connect_timeout": max(1, round(connect_timeout)),
        # A peer that vanished without a word is noticed within half a minute, not two hours.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25_000,
    }
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    # Until it is known that no pooler stands between; see sessions.py.
    arguments["prepare_threshold"] = None
    return arguments


def migrations_folder() -> Path:
    """Where the migration scripts lie: inside the installed package, or beside its sources."""
    package = Path(__file__).resolve().parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parents[1] / "migrations"


def migrate(url: str, revision: str = "head", *, patience_seconds: float = 60.0) -> None:
    """Bring the tables at `url` to `revision` in one transaction.

    Any number of processes may call this at once: the others wait and find nothing to do. Workers
    and producers may run meanwhile: they wait for its end.
    Raises SchemaError, with nothing changed, where the tables are newer than this release or others
    hold one for longer than `patience_seconds`, and whatever SQLAlchemy raises when the database
    cannot be reached.
    """
    from alembic import command  # noqa: PLC0415 - a producer never needs Alembic
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    engine = sync_engine(url, patient=True, poolclass=NullPool)
    try:
        with engine.begin() as conn:
            conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            found = _revision(conn)
            _refuse_newer(found)
            if found is not None and found != (REVISION if revision == "head" else revision):
                _stand_still(conn, patience_seconds)
            config.attributes["connection"] = conn
            command.upgrade(config, revision)
    finally:
        engine.dispose()


def _stand_still(conn: Connection, patience_seconds: float) -> None:
    from signalpost.repository.standstill import lock_all_tables  # noqa: PLC0415 - only to migrate

    end = time.monotonic() + patience_seconds
    while not lock_all_tables(conn):
        if time.monotonic() > end:
            raise SchemaError(
                "nothing was migrated: an open transaction holds a table, and `select pid, state, "
                "query_start from pg_stat_activity` shows whose; end it, then migrate again"
            )
        time.sleep(_GIVEN_WAY_SECONDS)


def check_schema(conn: Connection) -> None:
    """Raise SchemaError unless the tables are the ones that this code was written for."""
    found = _revision(conn)
    if found is None:
        raise SchemaError(
            f"the database has no tables in schema {SCHEMA}; run `signalpost migrate` first"
        )
    # Revisions are numbered, so their order can be told without reading the scripts.
    if found < REVISION:
        raise SchemaError(
            f"the tables are at revision {found}, this release needs {REVISION}; "
            "run `signalpost migrate`"
        )
    _refuse_newer(found)


def _revision(conn: Connection) -> str | None:
    if not conn.scalar(text("SELECT to_regclass('signalpost.alembic_version') IS NOT NULL")):
        return None
    found: str | None = conn.scalar(text("SELECT version_num FROM signalpost.alembic_version"))
    return found


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > REVISION:
        raise SchemaError(
            f"the tables are at revision {found}, newer than this release ({REVISION}); "
            "install the newer signalpost here"
        )


def password_free(url: str) -> str:
    """`url` fit to be printed: its password hidden, in the query as well."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return "(an unreadable URL)"
    return parsed.difference_update_query(_HIDDEN).render_as_string(hide_password=True)
