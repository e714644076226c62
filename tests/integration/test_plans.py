from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, event, text

from signalpost.core.alerting import Pace
from signalpost.repository import alerts, claims, expiring, liveness, naming, pruning
from signalpost.repository.cancelling import CANCELLABLE
from signalpost.repository.changes import lines_since
from signalpost.repository.overview import overview
from signalpost.repository.reading import database_time
from signalpost.repository.replaying import REPLAYABLE, replay
from signalpost.repository.selecting import Selection, select_ids
from tests import rows

WORKER = UUID(int=7)
FINISHED = 200_000
ENGINES = ("claim", "rescue", "by id", "expire", "own", "silent")


FILL = (
    # Foreign keys are not checked row by row while filling: that alone would take many seconds.
    "SET LOCAL session_replication_role = replica",
    """
    INSERT INTO signalpost.signals
        (id, producer_id, idempotency_key, body, instrument, side, action)
    SELECT gen_random_uuid(), 'tests', n::text, '{}', 'IBM', 'buy', 'open'
    FROM generate_series(1, :many) n
    """,
    """
    INSERT INTO signalpost.deliveries
        (signal_id, endpoint_id, status, next_attempt_at, finished_at, attempts)
    SELECT id, :endpoint, 'delivered', NULL, clock_timestamp(), 1 FROM signalpost.signals
    """,
    """
    INSERT INTO signalpost.attempts
        (delivery_id, number, claim_id, worker_id, started_at, phase, outcome, counted)
    SELECT id, 1, gen_random_uuid(), gen_random_uuid(), created_at, 'body', 'delivered', true
    FROM signalpost.deliveries
    """,
    """
    INSERT INTO signalpost.alerts (kind, delivery_id, endpoint_id, sent_at, receipt)
    SELECT 'dead', id, :endpoint, clock_timestamp(), '1' FROM signalpost.deliveries
    """,
)


@pytest.fixture
def full_outbox(engine: Engine) -> Engine:
    """An outbox with 200,000 finished deliveries and their alerts, and a few due."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection)
        for statement in FILL:
            values = {"many": FINISHED, "endpoint": endpoint_id}
            wanted = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), wanted)
        for _ in range(50):
            rows.add_delivery(connection, endpoint_id=endpoint_id)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    return engine


def plans(engine: Engine, work: Any) -> list[dict[str, Any]]:
    """The plans of every statement that some work runs, by EXPLAIN with the same parameters."""
    found: list[dict[str, Any]] = []

    def explain(
        connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any
    ) -> tuple[str, Any]:
        inspector = connection.connection.cursor()
        inspector.execute("EXPLAIN (FORMAT JSON) " + statement, parameters)
        answer = inspector.fetchone()[0]
        found.append((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"])
        return statement, parameters

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", explain, retval=True)
        work(connection)
        event.remove(connection, "before_cursor_execute", explain)
        connection.rollback()
    return found


def plans_for_all_values(engine: Engine, work: Any) -> list[dict[str, Any]]:
    """The plans that a prepared statement keeps: made without a look at its parameters."""
    with engine.connect() as connection:
        connection.connection.dbapi_connection.prepare_threshold = 0  # type: ignore[union-attr]
        connection.exec_driver_sql("SET plan_cache_mode = force_generic_plan")
        work(connection)
        prepared = connection.execute(
            text(
                "SELECT name, cardinality(parameter_types) FROM pg_prepared_statements "
                "WHERE statement ~ 'signalpost[.]'"
            )
        ).all()
        found = []
        for name, parameters in prepared:
            values = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
            answer = connection.exec_driver_sql(
                f'EXPLAIN (FORMAT JSON) EXECUTE "{name}"{values}'
            ).scalar_one()
            found.append((json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"])
        connection.rollback()
    return found


def scanned(plan: dict[str, Any]) -> set[str]:
    """The tables that a plan reads from end to end."""
    here = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return here.union(*(scanned(child) for child in plan.get("Plans", [])))


def test_no_hot_statement_reads_the_finished_rows(full_outbox: Engine) -> None:
    """Claims, rescue, expiry, liveness, alerts and prune use the small partial indexes."""
    hot = {
        "claim": lambda c: claims.claim_due(c, worker_id=WORKER, limit=50),
        "rescue": lambda c: claims.claim_due(c, worker_id=WORKER, limit=50, overdue_seconds=2),
        "by id": lambda c: naming.claim_by_id(c, [WORKER], worker_id=WORKER),
        "expire": lambda c: expiring.expire_pending(c, limit=50),
        "own": lambda c: claims.claims_of(c, [WORKER], limit=50),
        "silent": lambda c: liveness.silent_workers(c, own_id=WORKER, silence_seconds=10),
        "alerts": lambda c: alerts.claim_message(c, pace=Pace()),
        "status": overview,
        "cancel": lambda c: select_ids(c, Selection(), among=CANCELLABLE),
        "replay": lambda c: select_ids(c, Selection(instrument="IBM"), among=REPLAYABLE),
        "tail": lambda c: lines_since(
            c, database_time(c), [WORKER], Selection(producer="tests"), most=100
        ),
        "prune": lambda c: pruning.prune_finished(c, retention_days=30, limit=500),
        "prune untaken": lambda c: pruning.prune_untaken(c, retention_days=30, limit=500),
        "judge": lambda c: replay(c, [WORKER], actor="tests", dry_run=True),
    }
    large = {"deliveries", "signals", "attempts", "alerts"}
    for name, work in hot.items():
        for plan in plans(full_outbox, work):
            assert scanned(plan) & large == set(), f"{name}: {json.dumps(plan)[:2000]}"
        kept = plans_for_all_values(full_outbox, work) if name in ENGINES else []
        assert bool(kept) is (name in ENGINES), name
        for plan in kept:
            assert scanned(plan) & large == set(), f"{name}, prepared: {json.dumps(plan)[:2000]}"
