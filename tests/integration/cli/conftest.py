from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from tests import rows
from tests.databases import cloned
from tests.integration.cli.operators import LINE, Operator
from tests.integration.test_reading import add_attempt


@pytest.fixture
def operator(tmp_path: Path, database_url: str, redis_url: str) -> Operator:
    return Operator(tmp_path, database_url, redis_url)


@pytest.fixture(scope="session")
def bystander(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: str,
    migrated_template: str,
    redis_server: str,
) -> Iterator[Operator]:
    """An operator for tests that change nothing: one database for all, with an endpoint desk."""
    with cloned(postgres_server, migrated_template) as url:
        shared = Operator(tmp_path_factory.mktemp("bystander"), url, redis_server)
        assert shared.run("endpoint", "add", "desk", "http://127.0.0.1:9/in").exit_code == 0
        yield shared


@pytest.fixture
def endpoint(operator: Operator) -> str:
    """An endpoint named desk; its secret."""
    secret: str = operator.json("endpoint", "add", "desk", "http://127.0.0.1:9/in")["secret"]
    return secret


@pytest.fixture
def dead_letter(operator: Operator, endpoint: str, engine: Engine) -> UUID:
    """A delivery that is dead after two attempts, with an alert, the last of them unanswered."""
    operator.run("send", operator.file(LINE))
    [line] = operator.json("deliveries", "list")
    delivery_id = UUID(line["delivery_id"])
    with engine.begin() as conn:
        worker_id = rows.add_worker(conn, name="host:42")
        add_attempt(
            conn, delivery_id, 1, worker_id=worker_id, excerpt=b"try \x1b[2Jlater", detail="busy"
        )
        add_attempt(
            conn,
            delivery_id,
            2,
            worker_id=worker_id,
            status_code=None,
            failure="timeout",
            outcome="unknown",
            phase="sent",
            duration_seconds=30.0,
        )
        conn.execute(
            text(
                "UPDATE signalpost.deliveries SET status = 'dead', reason = 'exhausted',"
                " attempts = 2, spent = 2, next_attempt_at = NULL, maybe_received = true,"
                " finished_at = clock_timestamp() WHERE id = :id"
            ),
            {"id": delivery_id},
        )
        alert = rows.add_alert(conn, kind="dead", delivery_id=delivery_id)
        rows.mark_alert_sent(conn, alert)
    return delivery_id
