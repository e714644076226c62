"""Sessions: what they prepare, with plans that stay young, and how long they hold locks."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from signalpost import database
from signalpost.repository import naming
from signalpost.sessions import IDLE_SECONDS, PLAN_SECONDS, PREPARE_AFTER, settle_on
from signalpost.settings import driver_url
from tests import rows
from tests.waiting import until

WORKER = UUID(int=7)
KEY_DATA = b"K" + struct.pack("!i", 12)
"""https://www.postgresql.org/docs/current/protocol-message-formats.html: BackendKeyData"""


def prepared_by(connection: Connection) -> list[str]:
    """The statements of ours that a connection's session knows."""
    found = connection.execute(text("SELECT statement FROM pg_prepared_statements"))
    return [statement for (statement,) in found if "pg_prepared_statements" not in statement]


@pytest.fixture
def pooler(database_url: str) -> Iterator[str]:
    """A server's address by way of one that, as poolers do, tells a process id of its own."""
    parts = urlsplit(database_url)
    listener = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = [listener]

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                head, found, rest = data.partition(KEY_DATA)
                if found:
                    rest = struct.pack("!i", 77) + rest[4:]
                target.sendall(head + found + rest)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((parts.hostname, parts.port))
                open_ones.extend((client, server))
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    user = parts.netloc.rpartition("@")[0]
    yield parts._replace(netloc=f"{user}@127.0.0.1:{listener.getsockname()[1]}").geturl()
    for one in open_ones:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def claim_again_and_again(engine: Engine) -> list[str]:
    """Claim on one connection more often than it takes; say what its session knows then."""
    with engine.connect() as connection:
        for _ in range(PREPARE_AFTER + 2):
            naming.claim_by_id(connection, [WORKER], worker_id=WORKER)
            connection.commit()
        return prepared_by(connection)


def test_what_is_asked_often_is_prepared(database_url: str) -> None:
    """On a direct connection the claim by id is prepared; without asking for it nothing is."""
    engine = database.sync_engine(database_url, busy=True)
    plain = database.sync_engine(database_url)

    assert any("signalpost.deliveries" in one for one in claim_again_and_again(engine))
    assert claim_again_and_again(plain) == []

    engine.dispose()
    plain.dispose()


def test_behind_a_pooler_nothing_is_prepared(pooler: str) -> None:
    """No statement is prepared where the server's process id is not the one told at the start."""
    engine = database.sync_engine(pooler, busy=True)

    assert claim_again_and_again(engine) == []

    engine.dispose()


def test_no_plan_outlives_the_growth_of_its_table(database_url: str) -> None:
    """A plan made while a table was small is made anew within seconds, without any ANALYZE."""
    moment = 0.0
    engine = create_engine(driver_url(database_url))
    settle_on(engine, steady=lambda: moment)
    look = "SELECT number FROM grown WHERE number = :number"

    def plan(connection: Connection) -> str:
        answer: Any = connection.exec_driver_sql("EXPLAIN (FORMAT JSON) EXECUTE look (1)").scalar()
        return str(answer[0]["Plan"]["Node Type"])

    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE grown (number int) WITH (autovacuum_enabled=off)")
        connection.exec_driver_sql("CREATE INDEX ON grown (number)")
        connection.exec_driver_sql("INSERT INTO grown VALUES (1)")
        connection.exec_driver_sql("ANALYZE grown")
        connection.exec_driver_sql("SET plan_cache_mode = force_generic_plan")
        connection.exec_driver_sql(f"PREPARE look (int) AS {look.replace(':number', '$1')}")
        connection.commit()
        early = plan(connection)
        connection.exec_driver_sql("INSERT INTO grown SELECT generate_series(1, 50000)")
        connection.commit()
        moment += PLAN_SECONDS - 0.1
        kept = plan(connection)
        connection.commit()
        moment += 0.2
        late = plan(connection)
    engine.dispose()

    assert (early, kept) == ("Seq Scan", "Seq Scan")
    assert late != "Seq Scan"


def test_a_prepared_statement_outlives_a_migration(database_url: str, engine: Engine) -> None:
    """A column that a newer release adds does not disturb what an older one has prepared."""
    prepared = database.sync_engine(database_url, busy=True)
    with prepared.connect() as connection:
        endpoint_id = rows.add_endpoint(connection)

        def claimed() -> int:
            delivery_id = rows.add_delivery(connection, endpoint_id=endpoint_id)
            found = naming.claim_by_id(connection, [delivery_id], worker_id=WORKER)
            connection.commit()
            return len(found.claims)

        before = [claimed() for _ in range(10)]
        for table in ("deliveries", "endpoints", "signals"):
            with engine.begin() as other:
                other.execute(text(f"ALTER TABLE signalpost.{table} ADD COLUMN newer int"))
        after = [claimed() for _ in range(10)]
    prepared.dispose()

    assert before == after == [1] * 10


async def test_a_machine_that_vanished_holds_no_lock_for_long(database_url: str) -> None:
    """The server ends a session's transaction that nobody goes on with."""
    engine = database.sync_engine(database_url, busy=True)
    plain = database.sync_engine(database_url)
    alike = database.async_engine(database_url)
    patient = database.sync_engine(database_url, patient=True)
    asked = text("SHOW idle_in_transaction_session_timeout")
    with engine.connect() as connection:
        assert connection.execute(asked).scalar_one() == f"{IDLE_SECONDS}s"
        connection.rollback()
        assert connection.execute(asked).scalar_one() == f"{IDLE_SECONDS}s"
    with plain.connect() as connection:
        assert connection.execute(asked).scalar_one() == f"{IDLE_SECONDS}s"
    async with alike.connect() as connecting:
        assert (await connecting.execute(asked)).scalar_one() == f"{IDLE_SECONDS}s"
    await alike.dispose()
    with patient.connect() as connection:
        assert connection.execute(asked).scalar_one() == "0"
    patient.dispose()
    lost = engine.connect()
    lost.execute(text("SET idle_in_transaction_session_timeout = '50ms'"))
    lost.commit()
    own = lost.execute(text("SELECT pg_backend_pid()")).scalar_one()
    gone = text("SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = :pid")
    with plain.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        await until(lambda: other.execute(gone, {"pid": own}).scalar_one())
    with pytest.raises(DBAPIError, match="idle-in-transaction"):
        lost.execute(asked)
    lost.invalidate()
    lost.close()
    engine.dispose()
    plain.dispose()
