"""What PostgreSQL says of itself: release, role, durability, room."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

__all__ = ["ServerFacts", "server_facts"]


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The server and the database as this role sees them; sizes in bytes.

    `data_directory` is None where the role may not know it.
    """

    version: str
    version_number: int
    read_only: bool
    fsync: bool
    full_page_writes: bool
    synchronous_commit: bool
    connections: int
    max_connections: int
    database_bytes: int
    data_directory: str | None


# A setting that the role may not read is an error, not NULL: hence the question before it.
_FACTS = text("""
SELECT current_setting('server_version') AS version,
    CAST(current_setting('server_version_num') AS integer) AS version_number,
    current_setting('transaction_read_only') = 'on' AS read_only,
    current_setting('fsync') = 'on' AS fsync,
    current_setting('full_page_writes') = 'on' AS full_page_writes,
    current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
    CAST(current_setting('max_connections') AS integer) AS max_connections,
    pg_database_size(current_database()) AS database_bytes,
    CASE WHEN pg_has_role('pg_read_all_settings', 'USAGE')
        THEN current_setting('data_directory') END AS data_directory
""")


def server_facts(conn: Connection) -> ServerFacts:
    """The facts as they are now."""
    return ServerFacts(**conn.execute(_FACTS).one()._asdict())
