"""A release's code goes on beside the next one's tables: migrations only add."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from signalpost import database
from signalpost.models import SCHEMA
from tests.databases import cloned

ALEMBIC_INI = str(Path(__file__).parents[2] / "alembic.ini")
COLUMNS = text("""
SELECT table_name, column_name, data_type, is_nullable = 'NO' AND column_default IS NULL
    AND is_identity = 'NO' AS required
FROM information_schema.columns WHERE table_schema = :schema
""")


@pytest.fixture
def empty(postgres_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine on a database in which nothing was ever made, which Alembic finds too."""
    with cloned(postgres_server, "template1") as url:
        monkeypatch.setenv("SIGNALPOST_DATABASE_URL", url)
        engine = database.sync_engine(url)
        yield engine
        engine.dispose()


def columns(engine: Engine) -> dict[tuple[str, str], tuple[str, bool]]:
    """Type, and whether an INSERT must name it, by table and column."""
    with engine.connect() as connection:
        rows = connection.execute(COLUMNS, {"schema": SCHEMA})
        return {(row[0], row[1]): (row[2], row[3]) for row in rows}


def test_each_migration_leaves_the_release_before_it_working(empty: Engine) -> None:
    """Workers run while the tables are migrated, so no migration takes away or changes a column
    that their statements name, or adds to their tables one that they would have to.
    """
    configuration = Config(ALEMBIC_INI)
    script = ScriptDirectory.from_config(configuration)
    revisions = [one.revision for one in script.walk_revisions()][::-1]
    command.upgrade(configuration, revisions[0])
    before = columns(empty)
    for revision in revisions[1:]:
        command.upgrade(configuration, revision)
        after = columns(empty)
        for name, (kind, _) in before.items():
            assert after.get(name, ("gone",))[0] == kind, (revision, name)
        tables = {table for table, _ in before}
        added = {name for name in after.keys() - before.keys() if name[0] in tables}
        assert [name for name in added if after[name][1]] == [], revision
        before = after
