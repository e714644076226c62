"""How Alembic runs the migrations: all tables, its own included, live in schema ``signalpost``."""

from __future__ import annotations

import os
from typing import Any

from alembic import context
from sqlalchemy import Connection, text

from signalpost.database import sync_engine
from signalpost.models import SCHEMA, Base
from signalpost.settings import load_settings


def include_name(name: str | None, kind: str, _parents: Any) -> bool:
    """Leave the other schemas of a shared database alone."""
    return kind != "schema" or name == SCHEMA


def options() -> dict[str, Any]:
    return {
        "target_metadata": Base.metadata,
        "version_table_schema": SCHEMA,
        "include_schemas": True,
        "include_name": include_name,
        "compare_server_default": True,
    }


def run(connection: Connection) -> None:
    # Alembic writes its version table before the first script runs. Asked first, because IF NOT
    # EXISTS needs the right to create schemas even where a DBA has made this one.
    if connection.scalar(text("SELECT to_regnamespace(:name) IS NULL"), {"name": SCHEMA}):
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    context.configure(connection=connection, **options())
    with context.begin_transaction():
        context.run_migrations()


def run_from_the_command_line() -> None:
    """`alembic upgrade head` with the settings of the environment, for those who develop."""
    engine = sync_engine(load_settings(os.environ).database_url)
    try:
        with engine.begin() as connection:
            # Alembic leaves out the name of the default schema when it compares, and for a role
            # called signalpost that is ours.
            connection.dialect.default_schema_name = "public"
            run(connection)
    finally:
        engine.dispose()


given: Connection | None = context.config.attributes.get("connection")
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, **options())
    with context.begin_transaction():
        context.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        context.run_migrations()
elif given is not None:
    run(given)
else:
    run_from_the_command_line()
