"""What a delivery leaves behind in PostgreSQL: log, disk, commits, dead rows.

    python -m tests.measurements.storage [deliveries] [fillfactor]

Signals are enqueued many at once while no worker runs, then one worker delivers them by `drain` to
a receiver that answers at once, in two rounds with a VACUUM between: the second one finds the room
that the first one's dead rows left. With a fillfactor, the table of
deliveries is given that one before (100: pages are filled). Servers and fsync as in deliveries.py;
counts and bytes hardly depend on what else the machine does.
"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Any

import psutil
from redis import Redis
from sqlalchemy import Engine, text

from signalpost import Producer, Signal
from signalpost.upkeep import prune
from tests import rows
from tests.engines import SEALED
from tests.measurements.deliveries import ground, wait_delivered
from tests.measurements.idle import used
from tests.processes import Program, signalpost

TABLES = ("signals", "deliveries", "attempts")
# Counters of sessions and tables reach the views up to a second (sessions: ten) late.
SETTLE_SECONDS = 11.0


def signals(count: int, beginning: int) -> list[Signal]:
    """So many, over a hundred instruments, as large as a strategy's."""
    return [
        Signal(
            instrument=f"INST{number % 100}",
            side="buy",
            entry_price="101.5",
            stop_loss="99",
            take_profit="110",
            confidence="0.8",
            reason=f"measured {number}",
            timestamp=datetime.now(UTC),
        )
        for number in range(beginning, beginning + count)
    ]


def looked(engine: Engine, redis: Redis) -> dict[str, float]:
    """The counters as they stand."""
    time.sleep(SETTLE_SECONDS)
    with engine.connect() as connection:
        one: Any = connection.execute(
            text(
                "SELECT wal_bytes, wal_records, wal_fpi, (SELECT xact_commit FROM pg_stat_database"
                " WHERE datname = current_database()) AS commits FROM pg_stat_wal"
            )
        ).one()
        found = {"wal": one.wal_bytes, "records": one.wal_records, "images": one.wal_fpi}
        found["commits"] = one.commits
        for name in TABLES:
            table: Any = connection.execute(
                text(
                    "SELECT n_tup_upd, n_tup_hot_upd, n_dead_tup, pg_relation_size(relid) AS heap,"
                    " pg_indexes_size(relid) AS indexes FROM pg_stat_user_tables"
                    " WHERE schemaname = 'signalpost' AND relname = :name"
                ),
                {"name": name},
            ).one()
            for key, value in table._mapping.items():
                found[f"{name} {key}"] = value
    stats: Any = redis.info("stats")
    found["redis"] = stats["total_commands_processed"]
    return {name: float(value) for name, value in found.items()}


def told(what: str, before: dict[str, float], after: dict[str, float], count: int) -> None:
    """What one of `count` cost, between two looks."""

    def each(name: str) -> float:
        return (after[name] - before[name]) / count

    print(
        f"{what}, for each: {each('wal'):.0f} bytes of log in {each('records'):.1f} records"
        f" ({each('images'):.2f} whole pages), {each('commits'):.3f} transactions,"
        f" {each('redis'):.2f} Redis commands"
    )


def sizes(before: dict[str, float], after: dict[str, float], count: int, stored: int) -> None:
    """How much each table has grown for each, and how many updates spared its indexes."""
    for name in TABLES:
        heap, indexes, updates, hot, dead = (
            (after[f"{name} {key}"] - before[f"{name} {key}"])
            for key in ("heap", "indexes", "n_tup_upd", "n_tup_hot_upd", "n_dead_tup")
        )
        share = f"{hot / updates:.0%} of them HOT" if updates else "none"
        print(
            f"{name:10} {heap / count:5.0f} bytes of rows, {indexes / count:5.0f} of indexes;"
            f" {updates / count:.2f} updates, {share}; {dead / count:.2f} dead rows;"
            f" in all {(after[f'{name} heap'] + after[f'{name} indexes']) / stored:.0f}"
        )


def enqueue(producer: Producer, count: int, beginning: int) -> None:
    for first in range(beginning, beginning + count, 1000):
        producer.enqueue_many(signals(min(1000, beginning + count - first), first))


def postmaster(engine: Engine) -> int:
    """The process whose children are the server's."""
    with engine.connect() as connection:
        backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return psutil.Process(backend).ppid()


def one_round(
    engine: Engine,
    redis: Redis,
    producer: Producer,
    environment: dict[str, str],
    *,
    count: int,
    number: int,
) -> None:
    """Enqueue, deliver, and say what each cost."""
    enqueued_from = looked(engine, redis)
    enqueue(producer, count, number * count)
    began = looked(engine, redis)
    with Program(signalpost("worker", "--role", "deliver"), env=environment) as program:
        program.wait_for_line("ready")
        server = postmaster(engine)
        worker_began, server_began = used(program.pid), used(server)
        wait_delivered(engine, (number + 1) * count)
        worker, server_spent = used(program.pid) - worker_began, used(server) - server_began
        memory = psutil.Process(program.pid).memory_info().rss / 2**20
        ended = looked(engine, redis)
    told("enqueue_many", enqueued_from, began, count)
    told("delivering", began, ended, count)
    sizes(enqueued_from, ended, count, (number + 1) * count)
    print(
        f"processor time for each: worker {worker / count * 1000:.2f} ms,"
        f" PostgreSQL {server_spent / count * 1000:.2f} ms; worker {memory:.0f} MiB resident"
    )


def main(count: int = 5000, fillfactor: int | None = None) -> None:
    """Two rounds."""
    with ground() as here:
        engine, url = here.engine, here.url
        with engine.begin() as connection:
            rows.add_endpoint(connection, url=url, secret_ciphertext=SEALED)
            if fillfactor is not None:
                statement = f"ALTER TABLE signalpost.deliveries SET (fillfactor = {fillfactor})"
                connection.execute(text(statement))
        redis, producer = here.redis(), here.producer()
        for number in range(2):
            print(f"round {number + 1} of {count} deliveries")
            one_round(engine, redis, producer, here.environment, count=count, number=number)
            with engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").execute(
                    text("VACUUM ANALYZE")
                )
        before, moment = looked(engine, redis), time.perf_counter()
        deleted = prune(engine, retention_days=0)
        rate = deleted / (time.perf_counter() - moment)
        print(f"prune: {deleted} deleted, {rate:.0f} a second")
        told("pruning", before, looked(engine, redis), deleted)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
