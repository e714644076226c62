"""Which database a connection leads to, so that a signal never lands where no worker looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

__all__ = ["DatabaseIdentity", "database_identity"]

# Anyone may ask for these, so that the question cannot fail in a caller's transaction. The start
# of the server tells servers apart; it changes with a restart, so a mismatch is asked for again.
_IDENTITY = text("""
SELECT pg_postmaster_start_time() AS server_started_at, oid, datname AS name
FROM pg_catalog.pg_database WHERE datname = current_database()
""")


@dataclass(frozen=True, slots=True)
class DatabaseIdentity:
    """One database of one running server."""

    server_started_at: datetime
    oid: int
    name: str


def database_identity(conn: Connection) -> DatabaseIdentity:
    """The database that `conn` leads to."""
    row = conn.execute(_IDENTITY).one()
    return DatabaseIdentity(row.server_started_at, row.oid, row.name)
