from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web
from sqlalchemy import Connection, Engine, text

from signalpost.core.pausing import Pause
from signalpost.core.shares import Room
from signalpost.outbox import Outbox
from signalpost.reports import Tally
from signalpost.repository import breakers, claims, pauses
from signalpost.repository.claimed import Claimed
from tests import receivers, rows
from tests.engines import SEALED, engine_rig
from tests.waiting import counts, until


def fill(connection: Connection, endpoint_id: int, many: int, **values: object) -> None:
    for _ in range(many):
        rows.add_delivery(connection, endpoint_id=endpoint_id, **values)


def crowd(work: Callable[[], None], many: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_a_limit_in_flight_binds_exactly_however_many_claim(engine: Engine) -> None:
    """Six claimers at once never hold more than the limit, and reach it."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection, max_in_flight=10)
        fill(connection, endpoint_id, 300)
    seen: list[int] = []
    question = text("SELECT count(*) FROM signalpost.deliveries WHERE status = 'sending'")
    release = text(
        "UPDATE signalpost.deliveries SET status = 'delivered', claim_id = NULL WHERE id = :id"
    )

    def work() -> None:
        for _ in range(25):
            with engine.begin() as connection:
                found = claims.claim_due(connection, worker_id=uuid4(), limit=4).claims
            with engine.connect() as connection:
                seen.append(connection.execute(question).scalar_one())
            for claim in found[:2]:
                with engine.begin() as connection:
                    connection.execute(release, {"id": claim.delivery_id})

    crowd(work, 6)
    assert max(seen) == 10


def test_a_rate_binds_across_all_claimers(engine: Engine) -> None:
    """Four claimers at 50/s: no window of one second holds more than 55 claims."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection, rate_per_second=50)
        fill(connection, endpoint_id, 300)
    ends = time.monotonic() + 1.5
    moments: list[datetime] = []

    def work() -> None:
        while time.monotonic() < ends:
            with engine.begin() as connection:
                found = claims.claim_due(connection, worker_id=uuid4(), limit=50)
            moments.extend(claim.claimed_at for claim in found.claims)
            time.sleep(found.again_seconds or 0.01)

    crowd(work, 4)
    moments.sort()
    second = timedelta(seconds=1)
    most = max(sum(1 for m in moments if one <= m < one + second) for one in moments)
    assert most <= 55
    assert moments


def test_a_rate_is_used_to_the_full(engine: Engine) -> None:
    """Whoever looks every 10 ms gets all that the rate allows, by the clock of the claims."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection, rate_per_second=50)
        fill(connection, endpoint_id, 150)
        begin = rows.database_now(connection)
        moments: list[datetime] = []
        for step in range(200):
            now = begin + timedelta(milliseconds=10 * step)
            found = claims.claim_due(connection, worker_id=uuid4(), limit=50, now=now)
            moments.extend(claim.claimed_at for claim in found.claims)
    assert 98 <= len(moments) <= 102, "fifty a second, and what may be ahead at the start"
    second = timedelta(seconds=1)
    assert max(sum(1 for m in moments if one <= m < one + second) for one in moments) <= 52


def test_a_claim_serves_the_least_loaded_first_and_no_endpoint_gets_all(engine: Engine) -> None:
    """A backlog neither starves a fresh endpoint nor takes every place of a process."""
    with engine.begin() as connection:
        big = rows.add_endpoint(connection, name="big")
        fill(connection, big, 120)
        small = rows.add_endpoint(connection, name="small")
        fill(connection, small, 2)
        room = Room(free=60, reserved=6, flights={big: 40})
        found = claims.claim_due(connection, worker_id=uuid4(), limit=60, room=room)
        taken = Counter(claim.endpoint for claim in found.claims)
        alone = claims.claim_due(
            connection, worker_id=uuid4(), limit=200, room=Room(free=99, flights={})
        )
    assert taken["small"] == 2
    # It may hold twice what it leaves free of the 54 places: (2 * 54 - 40) / 3.
    assert taken["big"] == 22
    assert len(alone.claims) == 66
    assert found.more


def test_a_paused_backlog_costs_a_claim_nothing_and_exits_may_pass(engine: Engine) -> None:
    """An endpoint's pause holds all of it, `entries_only` all but the exit lane."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection)
        fill(connection, endpoint_id, 3)
        fill(connection, endpoint_id, 2, priority=1, ordering_key="exit")
        what = Pause("endpoint", endpoint_id=endpoint_id)
        held = pauses.pause(connection, what, named="endpoint x", actor="tests", why="")
        assert (len(held.deliveries), held.exits) == (5, 2)
        none = claims.claim_due(connection, worker_id=uuid4(), limit=9)
        pauses.pause(
            connection,
            Pause("endpoint", endpoint_id=endpoint_id, entries_only=True),
            named="endpoint x",
            actor="tests",
            why="",
        )
        exits = claims.claim_due(connection, worker_id=uuid4(), limit=9)
        assert pauses.resume(connection, what, named="endpoint x", actor="tests", why="")
        rest = claims.claim_due(connection, worker_id=uuid4(), limit=9)
    assert none.claims == []
    assert [claim.priority for claim in exits.claims] == [1]
    assert rest.again_seconds is not None
    assert 1 <= len(rest.claims) <= 2


def test_a_paused_instrument_is_put_aside_once_and_comes_back_in_order(engine: Engine) -> None:
    """A claim parks what it meets; once no pause fits it any more it is taken back."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection)
        fill(connection, endpoint_id, 4)
        other = rows.add_delivery(
            connection,
            endpoint_id=endpoint_id,
            signal_id=rows.add_signal(connection, instrument="MSFT"),
        )
        what = Pause("instrument", "AA*")
        pauses.pause(connection, what, named="AA*", actor="tests", why="")
        found = claims.claim_due(connection, worker_id=uuid4(), limit=9)
        again = claims.claim_due(connection, worker_id=uuid4(), limit=9)
        assert ([claim.delivery_id for claim in found.claims], found.parked) == ([other], 4)
        assert (again.claims, again.parked) == ([], 0)
        assert pauses.unpark(connection, limit=9) == 0
        pauses.resume(connection, what, named="AA*", actor="tests", why="")
        assert pauses.unpark(connection, limit=3) == 3
        assert len(claims.claim_due(connection, worker_id=uuid4(), limit=9).claims) == 3
        trail = connection.execute(text("SELECT action, actor FROM signalpost.audit ORDER BY id"))
        assert [tuple(row) for row in trail] == [("paused", "tests"), ("resumed", "tests")]


async def test_no_first_byte_goes_out_a_second_after_a_pause(
    engine: Engine, database_url: str
) -> None:
    """What is in a worker already is given back unharmed, and goes out after the resume."""
    async with receivers.receiver() as receiver:
        with engine.begin() as connection:
            endpoint_id = rows.add_endpoint(
                connection, url=receiver.url, secret_ciphertext=SEALED, rate_per_second=200
            )
            fill(connection, endpoint_id, 400)
        async with engine_rig(database_url) as rig:
            rig.engine.look(0.0)
            await receiver.wait_for(40)
            with engine.begin() as connection:
                pauses.pause(connection, Pause("all"), named="all", actor="tests", why="")
            paused = time.monotonic()
            await until(lambda: time.monotonic() > paused + 1.0)
            count = len(receiver.seen)
            await until(lambda: time.monotonic() > paused + 2.0)
            assert len(receiver.seen) == count < 400
            with engine.begin() as connection:
                pauses.resume(connection, Pause("all"), named="all", actor="tests", why="")
            await receiver.wait_for(400, seconds=30)
    assert len({seen.delivery_id for seen in receiver.seen}) == len(receiver.seen) == 400


async def test_a_slow_endpoint_does_not_delay_another_one(
    engine: Engine, database_url: str
) -> None:
    """While one endpoint answers after seconds, single messages to it leave threads for others."""
    release, slow = receivers.gated()

    async with (
        receivers.receiver(slow) as stuck,
        receivers.receiver() as healthy,
        engine_rig(database_url, window_size=30) as rig,
    ):
        with engine.begin() as connection:
            one = rows.add_endpoint(connection, url=stuck.url, secret_ciphertext=SEALED)
            two = rows.add_endpoint(connection, url=healthy.url, secret_ciphertext=SEALED)

        async def fifty() -> float:
            known = len(healthy.seen)
            with engine.begin() as connection:
                fill(connection, two, 50)
            began = time.monotonic()
            rig.engine.look(0.0)
            await healthy.wait_for(known + 50)
            return time.monotonic() - began

        alone = await fifty()
        with engine.begin() as connection:
            fill(connection, one, 200)
        rig.engine.look(0.0)
        await stuck.wait_for(18)
        beside = await fifty()
        # Most of the window is taken, so it is less quick; the rescue would take more than 2 s.
        assert beside < 4 * alone + 0.5, f"alone {alone:.2f} s, beside {beside:.2f} s"
        assert len(stuck.seen) <= 20
        release.set()
        await stuck.wait_for(200)


class _LateAnswers(Outbox):
    """The outbox of a database whose answer to a claim may come late; without the rescue."""

    answers = asyncio.Event()
    asked = 0

    async def claim_due(self, *, overdue_seconds: float, **values: Any) -> Claimed:
        if overdue_seconds:
            return Claimed()
        claimed = await super().claim_due(overdue_seconds=overdue_seconds, **values)
        type(self).asked += 1
        await self.answers.wait()
        return claimed


async def test_room_that_is_made_during_a_claim_is_not_overlooked(
    engine: Engine, database_url: str
) -> None:
    """All of an endpoint's attempts end while a claim finds it full: the rest goes at once."""
    release, slow = receivers.gated()

    _LateAnswers.answers.set()
    async with (
        receivers.receiver(slow) as receiver,
        engine_rig(database_url, window_size=30, outbox_of=_LateAnswers) as rig,
    ):
        with engine.begin() as connection:
            one = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            fill(connection, one, 18)  # all that it may have of this window
        rig.engine.look(0.0)
        await receiver.wait_for(18)
        await until(lambda: rig.engine.in_flight == 18)
        _LateAnswers.answers.clear()
        asked = _LateAnswers.asked
        with engine.begin() as connection:
            fill(connection, one, 10)
        rig.engine.look(0.0)
        await until(lambda: _LateAnswers.asked > asked)
        release.set()
        await until(lambda: rig.engine.in_flight == 0)
        _LateAnswers.answers.set()
        await receiver.wait_for(28)


class _Counted(Outbox):
    """The outbox of a worker that finds nothing unless it looks; how often it did so."""

    looks = 0

    async def claim_due(self, *, overdue_seconds: float, **values: Any) -> Claimed:
        if overdue_seconds:
            return Claimed()
        self.looks += 1
        return await super().claim_due(overdue_seconds=overdue_seconds, **values)


async def test_what_one_look_saw_whole_is_not_looked_for_again(
    engine: Engine, database_url: str
) -> None:
    """One claim for all that is due; another one only where the first could not take it all."""
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, outbox_of=_Counted) as rig,
    ):
        assert isinstance(rig.outbox, _Counted)
        with engine.begin() as connection:
            three = [
                rows.add_endpoint(connection, name=name, url=receiver.url, secret_ciphertext=SEALED)
                for name in ("one", "two", "three")
            ]
            for one in three:
                fill(connection, one, 2)
        tally = await rig.engine.drain()
        assert (tally["delivered"], rig.outbox.looks) == (6, 1)
        with engine.begin() as connection:
            fill(connection, three[0], 150)  # more than one claim takes
        await rig.engine.drain()
        await receiver.wait_for(156)
        assert rig.outbox.looks >= 3


async def test_an_exit_behind_an_entry_of_its_key_goes_when_that_ends(
    engine: Engine, database_url: str
) -> None:
    """Found by the same look as the entry, which takes only that one; nobody rings for it."""
    release, slow = receivers.gated()
    async with (
        receivers.receiver(slow) as receiver,
        engine_rig(database_url, outbox_of=_Counted) as rig,
    ):
        with engine.begin() as connection:
            one = rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED)
            fill(connection, one, 1, ordering_key="K")
            fill(connection, one, 1, ordering_key="K", priority=1)
        rig.engine.look(0.0)
        await receiver.wait_for(1)
        release.set()
        await receiver.wait_for(2, seconds=1.5)


async def test_what_waits_behind_one_that_a_look_ends_goes_at_once(
    engine: Engine, database_url: str
) -> None:
    """The head of a key is past its life: the claim ends it, and its successor needs no rescue."""
    past = datetime.now(UTC) - timedelta(seconds=5)
    async with (
        receivers.receiver() as receiver,
        engine_rig(database_url, outbox_of=_Counted) as rig,
    ):
        with engine.begin() as connection:
            one = rows.add_endpoint(
                connection, url=receiver.url, secret_ciphertext=SEALED, ordered=True
            )
            for expires_at in (past, None):
                fill(
                    connection,
                    one,
                    1,
                    ordered=True,
                    held="new",
                    ordering_key="K",
                    expires_at=expires_at,
                )
        rig.engine.look(0.0)
        await receiver.wait_for(1, seconds=1.5)


class _Unrescued(Outbox):
    """The outbox of a worker that finds nothing unless it is rung for."""

    async def claim_due(self, *, overdue_seconds: float, **values: Any) -> Claimed:
        if overdue_seconds:
            return Claimed()
        return await super().claim_due(overdue_seconds=overdue_seconds, **values)


async def test_a_backlog_that_one_process_cannot_take_wakes_another(
    engine: Engine, database_url: str
) -> None:
    """With its share taken, a drain rings: another process goes on; what is shallow rings not."""
    release, slow = receivers.gated()
    rings: list[asyncio.Task[Tally]] = []

    async with (
        receivers.receiver(slow) as receiver,
        engine_rig(database_url, window_size=30, outbox_of=_Unrescued) as other,
        engine_rig(
            database_url,
            window_size=30,
            outbox_of=_Unrescued,
            ring=lambda: rings.append(asyncio.create_task(other.engine.drain())),
        ) as rig,
    ):
        with engine.begin() as connection:
            one = rows.add_endpoint(
                connection, url=receiver.url, secret_ciphertext=SEALED, timeout_seconds=120
            )
            fill(connection, one, 3)
        drained = asyncio.create_task(rig.engine.drain())
        await receiver.wait_for(3)
        await until(lambda: rig.engine.in_flight == 3)
        assert not rings
        with engine.begin() as connection:
            fill(connection, one, 33)
        rig.engine.look(0.0)
        await receiver.wait_for(36)
        assert (rig.engine.in_flight, other.engine.in_flight) == (18, 18)
        release.set()
        await drained
        await asyncio.gather(*rings)


class _Counting(Outbox):
    """Counts the looks at all that is due."""

    looks = 0

    async def claim_due(self, *, overdue_seconds: float, **values: Any) -> Claimed:
        type(self).looks += not overdue_seconds
        return await super().claim_due(overdue_seconds=overdue_seconds, **values)


async def test_beside_an_endpoint_that_has_its_share_others_cost_no_more_looks(
    engine: Engine, database_url: str
) -> None:
    """An attempt's end that makes no room for what is kept back is no reason to look."""
    release, slow = receivers.gated()

    async with (
        receivers.receiver(slow) as stuck,
        receivers.receiver() as healthy,
        engine_rig(database_url, window_size=30, outbox_of=_Counting) as rig,
    ):
        with engine.begin() as connection:
            one = rows.add_endpoint(
                connection, url=stuck.url, secret_ciphertext=SEALED, timeout_seconds=120
            )
            two = rows.add_endpoint(connection, url=healthy.url, secret_ciphertext=SEALED)
            fill(connection, one, 30)
        rig.engine.look(0.0)
        await stuck.wait_for(18)
        before = _Counting.looks
        for number in range(20):
            with engine.begin() as connection:
                fill(connection, two, 1)
            rig.engine.look(0.0)
            await healthy.wait_for(number + 1)
            await until(lambda: rig.engine.in_flight == 18)
        # One look finds it, another one that this was all; the first may end a look under way.
        assert _Counting.looks - before <= 2 * 20 + 2
        release.set()
        await stuck.wait_for(30)


async def test_a_limit_set_while_attempts_are_under_way_is_felt_at_their_ends(
    engine: Engine, database_url: str
) -> None:
    """They were claimed without it; each end that makes room under it lets the next one go."""
    gates = [asyncio.Event() for _ in range(4)]

    async def slow(_: receivers.Seen) -> web.Response:
        number = len(stuck.seen) - 1
        if number < len(gates):
            await gates[number].wait()
        return web.Response(status=201)

    async with (
        receivers.receiver(slow) as stuck,
        engine_rig(database_url, outbox_of=_Unrescued) as rig,
    ):
        with engine.begin() as connection:
            one = rows.add_endpoint(connection, url=stuck.url, secret_ciphertext=SEALED)
            fill(connection, one, 4)
        draining = asyncio.create_task(rig.engine.drain())
        await stuck.wait_for(4)
        with engine.begin() as connection:
            connection.execute(text("UPDATE signalpost.endpoints SET max_in_flight = 3"))
            fill(connection, one, 1)
        rig.engine.look(0.0)
        await until(lambda: bool(rig.engine._intake.left.kept.governed))
        # Two ends make room for one; the others are under way for long.
        gates[0].set()
        gates[1].set()
        await stuck.wait_for(5)
        for gate in gates:
            gate.set()
        await draining


async def test_drains_for_a_stuck_endpoint_do_not_hold_the_threads_of_a_worker(
    engine: Engine, database_url: str
) -> None:
    """Of many drains that each began a slow attempt few wait for it; the others tell, and end."""
    release, slow = receivers.gated()

    async with (
        receivers.receiver(slow) as stuck,
        engine_rig(database_url, threads=32) as rig,
    ):
        with engine.begin() as connection:
            one = rows.add_endpoint(connection, url=stuck.url, secret_ciphertext=SEALED)
        drains: list[asyncio.Task[Tally]] = []
        done: set[asyncio.Task[Tally]] = set()
        for number in range(6):
            with engine.begin() as connection:
                fill(connection, one, 1)
            drains.append(asyncio.create_task(rig.engine.drain()))
            await stuck.wait_for(number + 1)
            # Until it has looked again in vain, the next one would only join it.
            done, _ = await asyncio.wait(drains, timeout=0.1)
        assert len(done) >= 4
        assert max(tally.result()["under_way"] for tally in done) >= 1
        release.set()
        await asyncio.wait(drains)
        await until(lambda: counts(engine) == {"delivered": 6})


async def test_exits_to_a_stuck_endpoint_do_not_take_all_threads_of_a_worker(
    engine: Engine, database_url: str
) -> None:
    """Messages wait for attempts in so many threads only; one is left for those of others."""
    release = asyncio.Event()
    messages: asyncio.Queue[UUID] = asyncio.Queue()

    async def slow(_: receivers.Seen) -> web.Response:
        await release.wait()
        return web.Response(status=201)

    async with (
        receivers.receiver(slow) as stuck,
        receivers.receiver() as healthy,
        engine_rig(database_url, window_size=30, threads=8) as rig,
    ):

        async def thread() -> None:
            while True:
                await rig.engine.deliver(await messages.get())

        threads = [asyncio.create_task(thread()) for _ in range(8)]
        with engine.begin() as connection:
            one = rows.add_endpoint(connection, url=stuck.url, secret_ciphertext=SEALED)
            two = rows.add_endpoint(connection, url=healthy.url, secret_ciphertext=SEALED)
            for number in range(60):
                exits = {"priority": 1, "ordering_key": str(number)}
                messages.put_nowait(rows.add_delivery(connection, endpoint_id=one, **exits))
        await stuck.wait_for(20)
        began = time.monotonic()
        with engine.begin() as connection:
            messages.put_nowait(rows.add_delivery(connection, endpoint_id=two))
        await healthy.wait_for(1)
        assert time.monotonic() - began < 1
        release.set()
        await stuck.wait_for(60)
        for task in threads:
            task.cancel()


async def test_an_exit_is_found_while_slow_requests_have_all_other_places(
    engine: Engine, database_url: str
) -> None:
    """Without a message or a ring, one that becomes due goes out in a reserved place at once."""
    release, slow = receivers.gated()

    async with (
        receivers.receiver(slow) as stuck,
        receivers.receiver() as healthy,
        engine_rig(database_url, window_size=10) as rig,
    ):
        with engine.begin() as connection:
            for _ in range(20):
                one = rows.add_endpoint(connection, url=stuck.url, secret_ciphertext=SEALED)
                fill(connection, one, 2)
            two = rows.add_endpoint(connection, url=healthy.url, secret_ciphertext=SEALED)
        rig.engine.look(0.0)
        await stuck.wait_for(9)
        with engine.begin() as connection:
            fill(connection, two, 1)
            rows.add_delivery(connection, endpoint_id=two, priority=1, ordering_key="exit")
        began = time.monotonic()
        await healthy.wait_for(1)
        assert time.monotonic() - began < 0.5
        assert len(healthy.seen) == 1
        release.set()
        await healthy.wait_for(2)


def test_a_clock_that_is_set_back_or_a_new_rate_stops_nobody(engine: Engine) -> None:
    """Moments of a later time, from before, neither hold up an endpoint nor break a claim."""
    with engine.begin() as connection:
        now = rows.database_now(connection)
        hour = timedelta(hours=1)
        limited = rows.add_endpoint(connection, rate_per_second=50.0, rate_next_at=now + hour)
        released = rows.add_endpoint(connection, released_at=now + hour)
        broken = rows.add_endpoint(
            connection, opened_at=now + hour, failing_since=now + hour, probe_at=now + hour
        )
        for endpoint_id in (limited, released, broken):
            fill(connection, endpoint_id, 3)
        found = claims.claim_due(connection, worker_id=uuid4(), limit=9)
        assert {claim.endpoint_id for claim in found.claims} == {limited, released}
        breakers.tell_long_open(connection)
        later = now + timedelta(seconds=62)
        found = claims.claim_due(connection, worker_id=uuid4(), limit=9, now=later)
        assert [claim.endpoint_id for claim in found.claims].count(broken) == 1
