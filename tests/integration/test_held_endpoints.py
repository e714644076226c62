"""Somebody's open transaction holds one endpoint's row: the others' records do not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, text

from signalpost import database
from signalpost.core.outcomes import Answer, Phase
from signalpost.errors import RecordHeld
from signalpost.recording import Recorder
from tests import rows
from tests.engines import SEALED, engine_rig
from tests.waiting import counts

HOLD = text("SELECT FROM signalpost.endpoints WHERE id = :id FOR NO KEY UPDATE")
HOLD_WHOLLY = text("SELECT FROM signalpost.endpoints WHERE id = :id FOR UPDATE")
EACH = 4

Result = TypeVar("Result")


def two_endpoints(engine: Engine) -> tuple[int, int]:
    """Two endpoints with so many deliveries each; the first had a failure lately."""
    with engine.begin() as connection:
        ids = [rows.add_endpoint(connection, secret_ciphertext=SEALED) for _ in range(2)]
        for endpoint_id in ids:
            for _ in range(EACH):
                rows.add_delivery(connection, endpoint_id=endpoint_id)
        connection.execute(
            text(
                "UPDATE signalpost.endpoints SET failures = 1, failing_since = now() WHERE id = :id"
            ),
            {"id": ids[0]},
        )
    return ids[0], ids[1]


async def test_a_held_endpoint_delays_nobody_elses_records(
    engine: Engine, database_url: str
) -> None:
    """Its own records wait, all at once; the others are recorded in the second transaction."""
    async with engine_rig(database_url, start=False) as rig:
        held, _ = two_endpoints(engine)
        await rig.engine.vigil.renew()
        taken = (await rig.outbox.claim_due(limit=40, overdue_seconds=0)).claims
        assert len(taken) == 2 * EACH
        group = [
            rig.dispatcher.judge(
                claim,
                Answer(Phase.BODY, 0.1, status_code=500 if claim.endpoint_id == held else 200),
            )
            for claim in taken
        ]
        begun: list[object] = []
        db = database.async_engine(database_url)

        async def commit(work: Callable[[Connection], Result]) -> Result:
            begun.append(work)
            async with db.begin() as connection:
                return await connection.run_sync(work)

        with engine.begin() as somebody:
            somebody.execute(HOLD, {"id": held})
            results = await Recorder(commit).record(group)
        await db.dispose()
        # One finds out that something is held, the other waits for nothing.
        assert len(begun) == 2
        waiting = {
            claim.endpoint_id
            for claim, result in zip(taken, results, strict=True)
            if isinstance(result, RecordHeld)
        }
        assert waiting == {held}
        assert counts(engine) == {"delivered": EACH, "sending": EACH}

        again = await rig.outbox.record(
            [item for item, claim in zip(group, taken, strict=True) if claim.endpoint_id == held]
        )
        assert not any(isinstance(result, RecordHeld) for result in again)
        with engine.begin() as connection:
            failures = connection.execute(
                text("SELECT failures FROM signalpost.endpoints WHERE id = :id"), {"id": held}
            )
            assert failures.scalar_one() == 1 + EACH


async def test_a_held_endpoint_keeps_no_claims_of_the_dead(
    engine: Engine, database_url: str
) -> None:
    """A lost claim says nothing to a breaker; not even a row held wholly keeps the others'."""
    async with (
        engine_rig(database_url, start=False) as dead,
        engine_rig(database_url, start=False) as rig,
    ):
        held, wholly = two_endpoints(engine)
        await dead.engine.vigil.renew()
        await rig.engine.vigil.renew()
        taken = (await dead.outbox.claim_due(limit=40, overdue_seconds=0)).claims
        assert len(taken) == 2 * EACH
        with engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE signalpost.workers SET renewed_at = now() - interval '1 minute' "
                    "WHERE id = :id"
                ),
                {"id": dead.outbox.worker_id},
            )
        judge = rig.dispatcher.judge_lost
        with engine.begin() as somebody:
            somebody.execute(HOLD, {"id": held})
            somebody.execute(HOLD_WHOLLY, {"id": wholly})
            back = await rig.outbox.take_back(judge, silence_seconds=10)
        assert {claim.claim_id for claim in taken if claim.endpoint_id == held} == set(back)
        assert len(await rig.outbox.take_back(judge, silence_seconds=10)) == EACH
        assert counts(engine) == {"pending": 2 * EACH}
