from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import Connection, Engine, text

from signalpost import database
from signalpost.errors import SchemaError
from signalpost.models import SCHEMA, Base
from tests.databases import cloned

ALEMBIC_INI = str(Path(__file__).parents[2] / "alembic.ini")

# What makes a table: the columns with their defaults, the constraints, the indexes with conditions.
CATALOG = text("""
SELECT 'column', table_name, column_name, data_type, is_nullable, column_default, is_identity
FROM information_schema.columns WHERE table_schema = :schema
UNION ALL
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '', ''
FROM pg_constraint WHERE connamespace = CAST(:schema AS regnamespace) AND contype <> 'n'
UNION ALL
SELECT 'index', tablename, indexname, indexdef, '', '', ''
FROM pg_indexes WHERE schemaname = :schema
""")


@pytest.fixture
def empty_url(postgres_server: str) -> Iterator[str]:
    """A database in which nothing was ever made."""
    with cloned(postgres_server, "template1") as url:
        yield url


@pytest.fixture
def empty(empty_url: str) -> Iterator[Engine]:
    """An engine on the empty database."""
    engine = database.sync_engine(empty_url)
    yield engine
    engine.dispose()


def catalog(engine: Engine) -> set[tuple[object, ...]]:
    """Everything that stands in the outbox's schema, but for Alembic's own table."""
    with engine.connect() as connection:
        rows = {tuple(row) for row in connection.execute(CATALOG, {"schema": SCHEMA})}
    return {row for row in rows if "alembic_version" not in str(row)}


def test_up_down_and_up_again(
    empty: Engine, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Downgrading leaves no table behind, and upgrading again makes the same ones."""
    monkeypatch.setenv("SIGNALPOST_DATABASE_URL", empty_url)
    configuration = Config(ALEMBIC_INI)
    command.upgrade(configuration, "head")
    first = catalog(empty)
    command.downgrade(configuration, "base")
    assert catalog(empty) == set()
    command.upgrade(configuration, "head")
    assert catalog(empty) == first
    assert len(first) > 50


def test_models_and_migrations_agree(database_url: str, engine: Engine, empty: Engine) -> None:
    """The migrated tables are those the models declare: defaults, checks and conditions too."""
    options = {"version_table_schema": SCHEMA, "include_schemas": True, "include_name": of_ours}
    # Alembic leaves out the name of the default schema, which for a role of that name is ours.
    plain = database.sync_engine(f"{database_url}?options=-csearch_path%3Dpublic")
    with plain.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    plain.dispose()
    with empty.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        Base.metadata.create_all(connection)
    assert catalog(engine) == catalog(empty)


def of_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "schema" or name == SCHEMA


def test_the_code_knows_the_newest_migration() -> None:
    """REVISION is the head of the migration scripts, of which there is one line."""
    configuration = Config(ALEMBIC_INI)
    assert ScriptDirectory.from_config(configuration).get_heads() == [database.REVISION]


def test_many_may_migrate_at_once(empty: Engine, empty_url: str) -> None:
    """Processes that all start with a migration do not disturb each other."""
    failures: list[BaseException] = []

    def migrate() -> None:
        try:
            database.migrate(empty_url)
        except BaseException as error:  # noqa: BLE001 - to be told by the test
            failures.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with empty.connect() as connection:
        database.check_schema(connection)


def test_a_shared_database_keeps_what_is_not_ours(empty: Engine, empty_url: str) -> None:
    """The strategy's own tables, its Alembic's and its search path are left as they are."""
    with empty.begin() as connection:
        connection.execute(text("CREATE TABLE public.alembic_version (version_num text)"))
        connection.execute(text("INSERT INTO public.alembic_version VALUES ('theirs')"))
        connection.execute(text("CREATE TABLE public.signals (theirs int)"))
    database.migrate(empty_url)
    with empty.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM public.alembic_version")) == "theirs"
        assert connection.scalar(text("SELECT count(*) FROM public.signals")) == 0
        ours = connection.scalar(text("SELECT version_num FROM signalpost.alembic_version"))
        assert ours == database.REVISION


def test_a_prepared_schema_needs_no_right_to_make_schemas(
    postgres_server: str, empty_url: str
) -> None:
    """A role that owns the schema and may do nothing else to the database can migrate."""
    role, word = "outbox_owner", "correct_horse"
    name = sql.Identifier(role)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, word))
        connection.execute(sql.SQL("CREATE SCHEMA signalpost AUTHORIZATION {}").format(name))
    try:
        parts = urlsplit(empty_url)
        address = f"{role}:{word}@{parts.hostname}:{parts.port}"
        database.migrate(parts._replace(netloc=address).geturl())
    finally:
        with psycopg.connect(empty_url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
            connection.execute(sql.SQL("DROP ROLE {}").format(name))


def test_the_statements_can_be_read_before_they_are_run() -> None:
    """`alembic upgrade head --sql` prints the whole migration, the schema first."""
    printed = io.StringIO()
    command.upgrade(Config(ALEMBIC_INI, output_buffer=printed), "head", sql=True)
    statements = printed.getvalue()
    assert statements.index("CREATE SCHEMA") < statements.index("CREATE TABLE")
    assert "CREATE TABLE signalpost.deliveries" in statements


def test_a_database_without_tables_is_told(empty: Engine) -> None:
    """Before the first migration the check says to run it."""
    with empty.connect() as connection, pytest.raises(SchemaError, match="signalpost migrate"):
        database.check_schema(connection)


def test_a_downgraded_database_is_told(empty: Engine, empty_url: str) -> None:
    """Alembic's table without a version counts as no tables."""
    database.migrate(empty_url)
    with empty.begin() as connection:
        connection.execute(text("DELETE FROM signalpost.alembic_version"))
        with pytest.raises(SchemaError, match="no tables in schema signalpost"):
            database.check_schema(connection)


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("0000", "at revision 0000, this release needs .*migrate"),
        ("9999", "newer than this release"),
    ],
)
def test_another_release_s_tables_are_told(engine: Engine, version: str, told: str) -> None:
    """Tables that are older or newer than the code are told apart, each with its remedy."""
    with engine.connect() as connection:
        set_version(connection, version)
        with pytest.raises(SchemaError, match=told):
            database.check_schema(connection)


def set_version(connection: Connection, version: str) -> None:
    statement = text("UPDATE signalpost.alembic_version SET version_num = :version")
    connection.execute(statement, {"version": version})


def test_the_tables_of_this_release_pass(engine: Engine) -> None:
    """Migrated tables are taken without a word."""
    with engine.connect() as connection:
        database.check_schema(connection)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://alice:wonderland@h:5432/d", "postgresql://alice:***@h:5432/d"),
        (
            "postgresql://h/d?password=wonderland&sslmode=require",
            "postgresql://h/d?sslmode=require",
        ),
        ("redis://:wonderland@h:6379/0", "redis://:***@h:6379/0"),
        ("wonderland", "(an unreadable URL)"),
    ],
)
def test_addresses_are_shown_without_passwords(url: str, shown: str) -> None:
    """An address fit for a terminal holds no password, wherever in it that stood."""
    assert database.password_free(url) == shown


def test_the_url_s_own_connection_options_win(database_url: str) -> None:
    """What an operator writes into the URL's query is stronger than our defaults."""
    engine = database.sync_engine(f"{database_url}?application_name=theirs")
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW application_name")) == "theirs"
    engine.dispose()
