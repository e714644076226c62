"""All of the outbox's tables locked at once, so that they can be changed under running workers.

A migration that locks one table after another, as its statements come to them, meets transactions
that do so in another order: a deadlock, of which the server ends one side. And a statement that
waits for a table behind somebody's open transaction lets nobody else near it meanwhile.
"""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from signalpost.models import SCHEMA
from signalpost.sessions import is_lock_timeout

__all__ = ["GIVE_WAY_MILLISECONDS", "lock_all_tables"]

GIVE_WAY_MILLISECONDS = 250
"""So long a try waits at each table that somebody holds; all others wait for it meanwhile, also at
the tables that it has. Less than a server takes for a deadlock, unless it is set otherwise."""

_LOCK_ALL = text(f"""
DO $$ BEGIN
    EXECUTE (
        SELECT 'LOCK TABLE ' || string_agg(format('%I.%I', schemaname, tablename), ', '
            -- What most transactions take first is taken first.
            ORDER BY tablename <> 'deliveries', tablename) || ' IN ACCESS EXCLUSIVE MODE'
        FROM pg_tables WHERE schemaname = '{SCHEMA}');
END $$
""")
_PATIENCE = text("SELECT set_config('lock_timeout', :patience, true)")


def lock_all_tables(connection: Connection) -> bool:
    """Lock every table against everybody until the transaction's end, or none and return False.

    To be tried again after a pause: it gives way to whoever holds one of them for longer than
    GIVE_WAY_MILLISECONDS, and others go on only once it has.
    """
    try:
        with connection.begin_nested():
            connection.execute(_PATIENCE, {"patience": f"{GIVE_WAY_MILLISECONDS}ms"})
            connection.execute(_LOCK_ALL)
            connection.execute(_PATIENCE, {"patience": "0"})
    except OperationalError as trouble:
        if is_lock_timeout(trouble) or _is_deadlock(trouble):
            return False
        raise
    return True


def _is_deadlock(trouble: OperationalError) -> bool:
    return getattr(trouble.orig, "sqlstate", None) == "40P01"
