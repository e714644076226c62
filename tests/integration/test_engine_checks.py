"""The engine's checks: what is asked before a first byte, and before a claim is ended as lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from sqlalchemy import Engine, text

from signalpost.clock import Clocks, steady_seconds
from tests import receivers, rows
from tests.engines import SEALED, engine_rig
from tests.waiting import counts, until


class SlowResolver(AbstractResolver):
    """Finds every name on loopback; time passes meanwhile."""

    def __init__(self, pass_time: Callable[[], None]) -> None:
        self._pass_time = pass_time

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self._pass_time()
        found = ResolveResult(
            hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0
        )
        return [found]

    async def close(self) -> None:
        return


@pytest.mark.parametrize(
    ("seconds", "life_seconds", "outcome"), [(9.0, None, "released"), (6.0, 5.0, "expired")]
)
async def test_what_became_untrue_while_connecting_stops_the_first_byte(
    engine: Engine, database_url: str, seconds: float, life_seconds: float | None, outcome: str
) -> None:
    """Lease and expiry are asked again once the connection stands, right before the writing."""
    ahead = 0.0

    def pass_time() -> None:
        nonlocal ahead
        ahead = seconds

    async with (
        receivers.receiver() as receiver,
        engine_rig(
            database_url,
            clocks=Clocks(steady=lambda: steady_seconds() + ahead),
            resolver=SlowResolver(pass_time),
            start=False,
        ) as rig,
    ):
        expiry = life_seconds and datetime.now(UTC) + timedelta(seconds=life_seconds)
        with engine.begin() as connection:
            endpoint = rows.add_endpoint(
                connection,
                url=receiver.url.replace("127.0.0.1", "receiver.test"),
                secret_ciphertext=SEALED,
            )
            delivery_id = rows.add_delivery(
                connection, endpoint_id=endpoint, expires_at=expiry or None
            )
        await rig.engine.vigil.renew()
        report = await rig.engine.deliver(delivery_id)
    assert report.outcome == outcome
    assert receiver.seen == []


async def test_a_running_engine_ends_its_own_lost_claims(engine: Engine, database_url: str) -> None:
    """A claim whose answer never came is found without anybody asking, and sent after all."""
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        with engine.begin() as connection:
            endpoint = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            rows.add_delivery(connection, endpoint_id=endpoint)
        await rig.outbox.claim_due(limit=1, overdue_seconds=0)
        await until(lambda: counts(engine) == {"delivered": 1}, seconds=20)


async def test_only_a_worker_that_renewed_for_long_takes_claims_back(
    engine: Engine, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Right after a start, or an outage, a silence of others proves nothing; later it does, and the
    lost attempt has its line like any other.
    """
    ahead = 0.0
    clocks = Clocks(steady=lambda: steady_seconds() + ahead)
    async with engine_rig(database_url, clocks=clocks, start=False) as rig:
        with engine.begin() as connection:
            now = rows.database_now(connection)
            gone = rows.add_worker(connection, renewed_at=now - timedelta(seconds=11))
            rows.add_delivery(
                connection,
                status="sending",
                claim_id=uuid4(),
                worker_id=gone,
                claimed_at=now,
                next_attempt_at=None,
                attempts=1,
            )
        await rig.engine.vigil.renew()
        await rig.engine.vigil.take_back()
        assert counts(engine) == {"sending": 1}
        for _ in range(13):
            ahead += 0.8
            await rig.engine.vigil.renew()
        caplog.clear()
        await rig.engine.vigil.take_back()
    assert counts(engine) == {"pending": 1}
    (line,) = [each for each in caplog.messages if each.startswith("delivery=")]
    assert "attempt=1 outcome=unknown detail=claim_lost status=pending" in line


async def test_a_claim_is_not_lost_while_its_statement_may_still_answer(
    engine: Engine, database_url: str
) -> None:
    """A claim is committed before its worker knows of it; until then no look ends it."""
    async with engine_rig(database_url, start=False) as rig:
        await rig.engine.vigil.renew()
        # The claim waits for a table that the looking does not need.
        with engine.begin() as holding:
            holding.execute(text("LOCK TABLE signalpost.pauses IN ACCESS EXCLUSIVE MODE"))
            claiming = asyncio.create_task(rig.outbox.claim_due(limit=1, overdue_seconds=3600))
            await until(lambda: rig.outbox.claims_begun == 1)
            with engine.begin() as connection:
                rows.add_delivery(
                    connection,
                    status="sending",
                    claim_id=uuid4(),
                    worker_id=rig.outbox.worker_id,
                    claimed_at=rows.database_now(connection),
                    next_attempt_at=None,
                    attempts=1,
                )
            for _ in range(3):
                await asyncio.wait_for(rig.engine.vigil.end_unheld_claims(), 5)
            assert counts(engine) == {"sending": 1}
        await claiming
        await rig.engine.vigil.end_unheld_claims()
    assert counts(engine) == {"pending": 1}
