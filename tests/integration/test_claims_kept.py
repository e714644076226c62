"""What a claim has brought is attempted or ended, whatever becomes of the claims beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from signalpost.outbox import Outbox
from signalpost.repository.claimed import Claimed
from tests import receivers, rows
from tests.engines import SEALED, engine_rig
from tests.waiting import counts, until


class _FailsOnce(Outbox):
    """Fails at its second claim by name, as a database that goes away does."""

    asked = 0

    async def claim_by_id(self, delivery_ids: Sequence[UUID], **values: Any) -> Claimed:
        type(self).asked += 1
        if type(self).asked == 2:
            raise TimeoutError
        return await super().claim_by_id(delivery_ids, **values)


async def test_what_a_group_has_claimed_is_sent_though_its_next_statement_fails(
    engine: Engine, database_url: str
) -> None:
    """A group of messages that takes several statements: those of the first go out, each once."""
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, threads=16, outbox_of=_FailsOnce) as rig,
    ):
        with engine.begin() as connection:
            desk = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            ids = [rows.add_delivery(connection, endpoint_id=desk) for _ in range(12)]
        reports = await asyncio.gather(*map(rig.engine.deliver, ids))
        assert _FailsOnce.asked >= 2
        told = [report.outcome for report in reports]
        assert 0 < told.count("delivered") < 12
        assert told.count("delivered") + told.count("not_claimed") == 12
        assert rig.engine.in_flight == 0
        # The others are due, and found without a message.
        await until(lambda: counts(engine) == {"delivered": 12})
    assert len(receiver.seen) == 12


async def test_a_claim_that_nobody_attempts_is_ended_and_its_place_is_free(
    engine: Engine, database_url: str
) -> None:
    """Held, and forgotten by whoever should attempt it: the second look ends it as lost."""
    async with receivers.receiver() as receiver, engine_rig(database_url, start=False) as rig:
        await rig.engine.vigil.renew()
        with engine.begin() as connection:
            desk = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            rows.add_delivery(connection, endpoint_id=desk)
        claimed = await rig.outbox.claim_due(limit=1, overdue_seconds=0)
        flight = rig.dispatcher.take(claimed.claims[0], epoch=rig.lease.epoch)
        await rig.engine.vigil.end_unheld_claims()
        assert counts(engine) == {"sending": 1}
        await rig.engine.vigil.end_unheld_claims()
        assert counts(engine) == {"pending": 1}
        assert (rig.engine.in_flight, rig.dispatcher.loads.flights.total()) == (0, 0)
        # Should it begin after all, nothing goes out.
        await rig.dispatcher.attempt(flight)
        assert rig.dispatcher.loads.flights.total() == 0
    assert receiver.seen == []


class _Held(Outbox):
    """Keeps every claim by name waiting until it may go on."""

    begun = 0
    go_on = asyncio.Event()

    async def claim_by_id(self, delivery_ids: Sequence[UUID], **values: Any) -> Claimed:
        type(self).begun += 1
        await type(self).go_on.wait()
        return await super().claim_by_id(delivery_ids, **values)


async def test_what_waits_to_be_claimed_is_left_alone_once_a_worker_ends(
    engine: Engine, database_url: str
) -> None:
    """The statement under way is carried through; no other one is begun, and the caller is told."""
    rings: list[bool] = []
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, outbox_of=_Held, ring=lambda: rings.append(True)) as rig,
    ):
        with engine.begin() as connection:
            desk = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            ids = [rows.add_delivery(connection, endpoint_id=desk) for _ in range(40)]
        asked = [asyncio.create_task(rig.engine.deliver(one)) for one in ids]
        await until(lambda: _Held.begun == 1)
        rig.engine.begin_shutdown()
        # Whatever is due is another worker's from now on.
        assert rings == [True]
        _Held.go_on.set()
        reports = await asyncio.gather(*asked)
    assert _Held.begun == 1
    sent = sum(report.outcome == "delivered" for report in reports)
    assert 0 < sent == len(receiver.seen) < 40
    others = [report for report in reports if report.outcome != "delivered"]
    assert {report.outcome for report in others} == {"not_claimed"}
    # Of those that the statement under way had asked for, one may have been somebody else's.
    assert sum(report.shutting_down for report in others) >= 40 - 16


class _AwayOnce(Outbox):
    """Its first look at what is due fails; what is overdue it never finds."""

    failed = False

    async def claim_due(self, *, overdue_seconds: float, **values: Any) -> Claimed:
        if overdue_seconds:
            return Claimed()
        if not self.failed:
            self.failed = True
            raise TimeoutError
        return await super().claim_due(overdue_seconds=overdue_seconds, **values)


async def test_a_ring_is_not_forgotten_because_the_claim_failed(
    engine: Engine, database_url: str
) -> None:
    """The message is used up; the worker looks again by itself, without the rescue."""
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, outbox_of=_AwayOnce) as rig,
    ):
        with engine.begin() as connection:
            desk = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            rows.add_delivery(connection, endpoint_id=desk)
        await rig.engine.drain()
        await receiver.wait_for(1)
