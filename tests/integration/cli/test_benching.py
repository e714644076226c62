from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Engine, text

from signalpost.secretbox import SecretBox
from tests import rows
from tests.engines import engine_rig
from tests.integration.cli.operators import Operator, Result

FEW = ("bench", "--count", "20", "--paced", "5", "--per-second", "200")


@asynccontextmanager
async def draining(operator: Operator) -> AsyncIterator[None]:
    """A worker's engine that takes what is due at once, as if rung."""
    url, box = operator.environment["DATABASE_URL"], SecretBox([operator.keys])

    async with engine_rig(url, box=box) as rig:

        async def drain() -> None:
            while True:
                await rig.engine.drain()
                await asyncio.sleep(0.01)

        task = asyncio.create_task(drain())
        yield
        task.cancel()


async def run(operator: Operator, *words: str) -> Result:
    return await asyncio.to_thread(operator.run, *words)


def left(engine: Engine) -> dict[str, int]:
    with engine.connect() as conn:
        return {
            table: conn.execute(text(f"SELECT count(*) FROM signalpost.{table}")).scalar_one()
            for table in ("signals", "deliveries", "attempts", "alerts")
        }


async def test_measures_and_leaves_nothing(operator: Operator, engine: Engine) -> None:
    """It tells figures of both kinds, and all that it wrote is gone but for the audit trail."""
    async with draining(operator):
        result = await run(operator, *FEW, "--yes", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["bulk_signals"] == 20
    assert told["bulk_arrived_per_s"] > 1
    assert 0 < told["enqueue_p50_ms"] < told["arrived_p99_ms"]
    assert left(engine) == {"signals": 0, "deliveries": 0, "attempts": 0, "alerts": 0}
    assert operator.json("endpoint", "list") == []
    with engine.connect() as conn:
        found = conn.execute(text("SELECT name, producers FROM signalpost.endpoints")).one()
    # No other producer's signal could have gone there.
    assert found.producers == [found.name]
    acts = [act["action"] for act in operator.json("audit", "list")]
    assert sorted(acts) == ["endpoint added", "endpoint removed"]


async def test_keeps_apart(operator: Operator, engine: Engine, endpoint: str) -> None:
    """Another endpoint gets none of its signals, and another producer's stay where they are."""
    with engine.begin() as conn:
        rows.add_delivery(conn, next_attempt_at=text("clock_timestamp() + interval '1 hour'"))
    async with draining(operator):
        result = await run(operator, *FEW, "--yes")
    assert result.exit_code == 0, result.output
    assert "enqueue to receipt at 200/s" in result.stdout
    assert left(engine) == {"signals": 1, "deliveries": 1, "attempts": 0, "alerts": 0}
    assert "desk" in {found["name"] for found in operator.json("endpoint", "list")}


def test_asks_first(operator: Operator, engine: Engine) -> None:
    """Where nobody can be asked, nothing is written without --yes."""
    result = operator.run(*FEW)
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert operator.json("audit", "list") == []


def test_loopback_not_allowed(operator: Operator) -> None:
    """Settings that allow no loopback are told in one line, and nothing is left behind."""
    result = operator.run(*FEW, "--yes", OUTBOUND_ALLOW_NETWORKS="")
    assert result.exit_code == 1
    assert "OUTBOUND_ALLOW_NETWORKS" in result.stderr
    assert operator.json("endpoint", "list") == []
