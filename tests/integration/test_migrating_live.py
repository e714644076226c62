"""The tables of the next release come while this one's engine and producer are at work."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, text

from signalpost import database
from signalpost.errors import SchemaError
from signalpost.models import Base
from signalpost.repository.standstill import GIVE_WAY_MILLISECONDS, lock_all_tables
from tests import receivers, rows
from tests.databases import cloned
from tests.engines import SEALED, engine_rig
from tests.processes import wait_for
from tests.producing import make_signal, producer_on
from tests.waiting import counts, until

CALLS = 30
ALERT = text("INSERT INTO signalpost.alerts (kind, details) VALUES ('stall', '{}')")
TOUCH = text("UPDATE signalpost.deliveries SET reason = reason")


def migrate_as_the_next_release_may(connection: Connection) -> None:
    """A column and an index on every table, another table, another version."""
    for table in Base.metadata.sorted_tables:
        column = f"ALTER TABLE {table} ADD COLUMN next_one text NOT NULL DEFAULT 'no'"
        connection.execute(text(column))
        connection.execute(text(f"CREATE INDEX ON {table} (next_one)"))
    connection.execute(text("CREATE TABLE signalpost.next_ones (id bigint PRIMARY KEY)"))
    connection.execute(text("UPDATE signalpost.alembic_version SET version_num = '9999'"))


async def test_a_migration_disturbs_neither_an_engine_nor_a_producer(
    engine: Engine, database_url: str, redis_url: str
) -> None:
    """Statements prepared before it go on after it: each call succeeds, each signal comes once."""

    def migrate() -> None:
        with engine.begin() as connection:
            while not lock_all_tables(connection):
                time.sleep(0.01)
            migrate_as_the_next_release_may(connection)

    async with receivers.receiver() as receiver:
        with engine.begin() as connection:
            for ordered in (False, True):
                rows.add_endpoint(
                    connection, url=receiver.url, secret_ciphertext=SEALED, ordered=ordered
                )
        async with engine_rig(database_url) as rig:
            with producer_on(database_url, redis_url) as producer:
                migrating: asyncio.Task[None] | None = None
                for number in range(CALLS):
                    if number == CALLS // 3:
                        migrating = asyncio.create_task(asyncio.to_thread(migrate))
                    await producer.enqueue_async(make_signal(), ttl=60, ordering_key="one")
                    await rig.engine.drain()
                assert migrating is not None
                await migrating
            await until(lambda: counts(engine) == {"delivered": 2 * CALLS})
    assert set(Counter(seen.delivery_id for seen in receiver.seen).values()) == {1}


@pytest.fixture
def older(postgres_server: str) -> Iterator[tuple[str, Engine]]:
    """The tables of the release before, and an engine on them."""
    with cloned(postgres_server, "template1") as url:
        database.migrate(url, f"{int(database.REVISION) - 1:04}")
        engine = database.sync_engine(url)
        yield url, engine
        engine.dispose()


def revision(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(connection.scalar(text("SELECT version_num FROM signalpost.alembic_version")))


def somebody_waits(engine: Engine) -> bool:
    waiting = (
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE NOT granted"
    )
    with engine.connect() as connection:
        return bool(connection.scalar(text(f"{waiting} AND d.datname = current_database()")))


def test_a_migration_gives_way_to_an_open_transaction(older: tuple[str, Engine]) -> None:
    """While somebody holds one table it waits, holds up nobody at another for longer than a moment,
    and deadlocks with nobody; then it is done.
    """
    url, engine = older
    left_alone = []
    with ThreadPoolExecutor() as pool:
        with engine.begin() as holder:
            holder.execute(ALERT)
            migrating = pool.submit(database.migrate, url)
            for _ in range(3):
                began = time.monotonic()
                wait_for(lambda: somebody_waits(engine), 10)
                left_alone.append(time.monotonic() - began)
                with engine.begin() as other:
                    other.execute(text("SET LOCAL lock_timeout = '2s'"))
                    other.execute(TOUCH)
            assert not migrating.done()
            holder.execute(TOUCH)
        migrating.result(20)
    assert revision(engine) == database.REVISION
    # Others have most of the time; the first wait was for the migration to begin.
    assert max(left_alone[1:]) > 2 * GIVE_WAY_MILLISECONDS / 1000


def test_a_migration_that_gets_no_turn_says_so(older: tuple[str, Engine]) -> None:
    """Where a transaction stays open it gives up in one line, and has changed nothing."""
    url, engine = older
    before = revision(engine)
    with engine.begin() as holder:
        holder.execute(ALERT)
        with pytest.raises(SchemaError, match="open transaction holds a table"):
            database.migrate(url, patience_seconds=0)
    assert revision(engine) == before
