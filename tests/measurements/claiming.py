"""What a claim costs: groups of 200 from an outbox with few or many endpoints, and an idle look.

    python -m tests.measurements.claiming

One connection, PostgreSQL with fsync on; the time of one claim with its commit, medians. The same
rows are put back after every case, so the cases are alike.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine, text

from signalpost.database import migrate, sync_engine
from signalpost.repository import claims
from tests import rows, stack

FINISHED, GROUP, ROUNDS = 300_000, 200, 30

SIGNALS = text("""
INSERT INTO signalpost.signals (id, producer_id, idempotency_key, body, instrument, side, action)
SELECT gen_random_uuid(), 'measure', gen_random_uuid()::text, '{}', 'IBM', 'buy', 'open'
FROM generate_series(1, :many) n
RETURNING id
""")
DELIVERIES = """
WITH made AS (
    INSERT INTO signalpost.signals
        (id, producer_id, idempotency_key, body, instrument, side, action)
    SELECT gen_random_uuid(), 'measure', gen_random_uuid()::text, '{}', 'IBM', 'buy', 'open'
    FROM generate_series(1, :many) n
    RETURNING id
)
INSERT INTO signalpost.deliveries (signal_id, endpoint_id, status, next_attempt_at, finished_at)
SELECT made.id, :endpoint, %s FROM made
"""
FINISH = text(DELIVERIES % "'delivered', NULL, clock_timestamp()")
DUE = text(DELIVERIES % "'pending', clock_timestamp(), NULL")


def prepare(engine: Engine, endpoints: int, each: int) -> None:
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("DELETE FROM signalpost.deliveries WHERE status <> 'delivered'"))
        for _ in range(endpoints):
            endpoint_id = rows.add_endpoint(connection)
            connection.execute(DUE, {"many": each, "endpoint": endpoint_id})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE signalpost.deliveries"))
        connection.execute(text("ANALYZE signalpost.endpoints"))


def measure(engine: Engine, limit: int) -> tuple[float, float]:
    """Median milliseconds of a claim, and how many rows it took on average."""
    times, taken = [], 0
    worker = uuid4()
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with engine.begin() as connection:
            taken += len(claims.claim_due(connection, worker_id=worker, limit=limit).claims)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), taken / ROUNDS


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="signalpost-measure-") as folder:
        url = stack.postgres_in(Path(folder), durable=True).url()
        migrate(url)
        engine = sync_engine(url)
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            endpoint_id = rows.add_endpoint(connection)
            connection.execute(FINISH, {"many": FINISHED, "endpoint": endpoint_id})
        for endpoints, each in ((1, 0), (1, 20_000), (20, 1000), (200, 100), (700, 30)):
            prepare(engine, endpoints, each)
            took, rows_each = measure(engine, GROUP)
            print(
                f"{endpoints:5} endpoints, {each:6} due each: {took:7.2f} ms, {rows_each:.0f} rows"
            )
        engine.dispose()
        stack.stop_all()


if __name__ == "__main__":
    main()
