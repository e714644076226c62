"""Fixtures that more than one kind of test asks for: real servers, a fresh database a test.

Each test process (each worker of pytest-xdist) starts a server pair of its own on first use.
All addresses are what an operator would write: `postgresql://` and `redis://`, with passwords.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import Engine, create_engine

from tests import stack
from tests.databases import cloned, with_database
from tests.memory import data_folder
from tests.pages import Shown, run_blocks

ROOT = Path(__file__).parent.parent
TEMPLATE = "template_signalpost"

# A shell's background job is born deaf to Ctrl-C, and so would be every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def sync_url(url: str) -> str:
    """The address as SQLAlchemy wants it, with the driver named."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """Where this process's servers keep their data; they end with the run."""
    with data_folder() as folder:
        yield folder
        stack.stop_all()


@pytest.fixture(scope="session")
def postgres_server(server_folder: Path) -> str:
    """The address of a real PostgreSQL, as its superuser, for tests that make databases."""
    return stack.start_postgres(server_folder)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> str:
    """The name of a database that Alembic brought to the newest version once for this process."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
    engine = create_engine(sync_url(with_database(postgres_server, TEMPLATE)))
    configuration = Config(str(ROOT / "alembic.ini"))
    with engine.begin() as migrated:
        configuration.attributes["connection"] = migrated
        command.upgrade(configuration, "head")
    engine.dispose()
    return TEMPLATE


@pytest.fixture
def database_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """A fresh, migrated database of this test alone."""
    with cloned(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A plain SQLAlchemy engine on this test's database."""
    engine = create_engine(sync_url(database_url))
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def redis_server(server_folder: Path) -> str:
    """The address of this process's valkey; ask for `redis_url` to find it empty."""
    return stack.start_redis(server_folder)


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The address of a real valkey that holds nothing yet."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
def shown_on(tmp_path: Path) -> Iterator[Callable[[str], Shown]]:
    """Runs a page's Python blocks and gives what they define, of which the test must use all."""
    pages: dict[str, Shown] = {}

    def run(page: str) -> Shown:
        return pages.setdefault(page, run_blocks(page, tmp_path))

    yield run
    left = {page: names for page, shown in pages.items() if (names := shown.left_out())}
    assert not left, "a page shows what its test does not run"
