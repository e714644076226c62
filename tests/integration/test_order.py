from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from sqlalchemy import Connection, Engine, text

from signalpost.core.lifecycle import Decision, Status
from signalpost.core.outcomes import Answer, Outcome, Phase, Verdict
from signalpost.core.shares import Room
from signalpost.errors import EnqueueError
from signalpost.repository import (
    cancelling,
    claims,
    expiring,
    keys,
    naming,
    placing,
    pruning,
    records,
    replaying,
    walking,
)
from signalpost.repository.claimed import Claim
from signalpost.repository.enqueueing import Life, NewSignal, Way, enqueue
from signalpost.repository.recorded import Record
from signalpost.secretbox import seal
from tests import receivers, rows
from tests.engines import BOX, SEALED, engine_rig
from tests.processes import wait_for
from tests.waiting import until

LIFE = Life(default_ttl_seconds=600)
ENDS = {
    "delivered": (Outcome.DELIVERED, Decision(Status.DELIVERED)),
    "dead": (Outcome.REJECTED, Decision(Status.DEAD, "rejected")),
    "retry": (Outcome.RETRY, Decision(Status.PENDING, "http_503", 0.0)),
    "released": (Outcome.RELEASED, Decision(Status.PENDING, "paused", 0.0)),
}


def new_signal(instrument: str = "AAPL") -> NewSignal:
    signal_id = uuid4()
    return NewSignal(
        id=signal_id,
        key=str(signal_id),
        body=b"{}",
        instrument=instrument,
        side="buy",
        action="open",
        expires_at=None,
    )


def put(
    connection: Connection, instrument: str = "AAPL", life: Life = LIFE, way: Way | None = None
) -> list[UUID]:
    """Enqueue one signal; the ids of its deliveries."""
    [stored] = enqueue(connection, "tests", [new_signal(instrument)], life=life, way=way or Way())
    return [delivery.delivery_id for delivery in stored.deliveries]


def take(connection: Connection, limit: int = 100) -> list[Claim]:
    """Place what is new and claim whatever is due."""
    placing.place_new(connection, limit=500)
    return claims.claim_due(connection, worker_id=UUID(int=7), limit=limit).claims


def end(connection: Connection, claim: Claim, how: str = "delivered") -> None:
    outcome, decision = ENDS[how]
    made = Record(
        delivery_id=claim.delivery_id,
        claim_id=claim.claim_id,
        attempt=claim.attempt,
        worker_id=claim.worker_id,
        started_at=claim.claimed_at,
        answer=Answer(Phase.BODY, 0.1, status_code=200),
        verdict=Verdict(
            outcome, how, counted=outcome is not Outcome.RELEASED, maybe_received=False
        ),
        decision=decision,
        claim=claim,
    )
    records.record(connection, [made])


@pytest.fixture
def ordered(engine: Engine) -> Iterator[Connection]:
    """A database with one ordered endpoint."""
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk", ordered=True)
        yield connection


def test_one_delivery_of_a_key_goes_at_a_time_in_the_order_of_enqueueing(
    ordered: Connection,
) -> None:
    """The next of a key is claimable once the one before has ended, numbered without a gap."""
    ids = [put(ordered)[0] for _ in range(3)]
    other = put(ordered, "MSFT")[0]
    seen = []
    for _ in range(3):
        found = take(ordered)
        assert take(ordered) == []
        seen.append([(claim.delivery_id, claim.sequence) for claim in found])
        for claim in found:
            end(ordered, claim)
    assert seen == [[(ids[0], 1), (other, 1)], [(ids[1], 2)], [(ids[2], 3)]]


def test_a_retry_keeps_its_number_and_its_place(ordered: Connection) -> None:
    """A failed attempt is followed by the same delivery, not by its successor."""
    first, second = put(ordered)[0], put(ordered)[0]
    [claim] = take(ordered)
    end(ordered, claim, "retry")
    [again] = take(ordered)
    assert (again.delivery_id, again.sequence, again.attempt) == (first, 1, 2)
    end(ordered, again)
    [after] = take(ordered)
    assert (after.delivery_id, after.sequence) == (second, 2)


def test_a_call_with_many_signals_keeps_their_order_across_its_chunks(ordered: Connection) -> None:
    """The position of each of 1,100 signals is its place in the call, whatever its key sorts as."""
    signals = [new_signal() for _ in range(1100)]
    stored = enqueue(ordered, "tests", signals, life=LIFE)
    placed = ordered.execute(
        text("SELECT id FROM signalpost.deliveries ORDER BY position")
    ).scalars()
    assert list(placed) == [one.deliveries[0].delivery_id for one in stored]


def test_the_dead_are_skipped_or_block_as_the_endpoint_says(engine: Engine) -> None:
    """`skip` lets the successor go; `block` holds it until the dead one is replayed, which goes
    first and with the next number.
    """
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="skips", ordered=True)
        rows.add_endpoint(connection, name="blocks", ordered=True, on_dead="block")
        put(connection)
        put(connection)
        for claim in take(connection):
            end(connection, claim, "dead")
        [skipped] = take(connection)
        assert (skipped.endpoint, skipped.sequence) == ("skips", 2)
        end(connection, skipped)
        dead = connection.execute(
            text(
                "SELECT d.id FROM signalpost.deliveries d JOIN signalpost.endpoints e"
                " ON e.id = d.endpoint_id WHERE e.name = 'blocks' AND d.status = 'dead'"
            )
        ).scalar_one()
        walking.find_stuck(connection, after=walking.START, limit=10)
        assert take(connection) == []
        replaying.replay(connection, [dead], actor="tests")
        [again] = take(connection)
        assert (again.delivery_id, again.sequence, again.replays) == (dead, 2, 1)
        end(connection, again)
        [after] = take(connection)
        assert (after.endpoint, after.sequence) == ("blocks", 3)


def test_a_predecessor_past_its_expiry_or_cancelled_counts_as_ended(ordered: Connection) -> None:
    """The successor goes at once, whoever ended the head: the claim, the sweep or a person."""
    now = rows.database_now(ordered)
    short = replace(LIFE, ttl_seconds=5)
    put(ordered, life=short)
    put(ordered)
    placing.place_new(ordered, limit=10)
    later = now + timedelta(seconds=10)
    found = claims.claim_due(ordered, worker_id=uuid4(), limit=10, now=later)
    assert (len(found.claims), len(found.expired)) == (0, 1)
    [claim] = take(ordered)
    assert claim.sequence == 1
    end(ordered, claim)
    swept = put(ordered, life=short)[0]
    cancelled = put(ordered)[0]
    last = put(ordered)[0]
    placing.place_new(ordered, limit=10)
    assert [one.delivery_id for one in expiring.expire_pending(ordered, limit=9, now=later)] == [
        swept
    ]
    cancelling.cancel(ordered, [cancelled], actor="tests")
    [claim] = take(ordered)
    assert (claim.delivery_id, claim.sequence) == (last, 2)


def test_a_held_delivery_that_nobody_would_promote_is_found(ordered: Connection) -> None:
    """The walk over all keys makes it new again; what is held for a reason is left alone."""
    first, second = put(ordered)[0], put(ordered)[0]
    put(ordered, "MSFT")
    placing.place_new(ordered, limit=10)
    assert walking.find_stuck(ordered, after=walking.START, limit=10).stuck == 0
    ordered.execute(
        text("UPDATE signalpost.deliveries SET status = 'delivered' WHERE id = :id"), {"id": first}
    )
    assert [claim.instrument for claim in take(ordered)] == ["MSFT"]
    step = walking.find_stuck(ordered, after=walking.START, limit=1)
    assert step.stuck == 1
    assert walking.find_stuck(ordered, after=step.after, limit=1).stuck == 0
    [claim] = take(ordered)
    assert claim.delivery_id == second


def test_an_exit_never_overtakes_its_own_key_on_an_unordered_endpoint(engine: Engine) -> None:
    """High priority goes before all other keys, and waits for what is live of its own."""
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk")
        entry = put(connection, "AAPL")[0]
        for _ in range(3):
            put(connection, "MSFT")
        waits = put(connection, "AAPL", way=Way(high=True))[0]
        goes = put(connection, "TSLA", way=Way(high=True))[0]
        first = claims.claim_due(connection, worker_id=uuid4(), limit=1).claims
        assert [claim.delivery_id for claim in first] == [goes]
        rest = claims.claim_due(connection, worker_id=uuid4(), limit=100)
        assert waits not in {claim.delivery_id for claim in rest.claims}
        by_id = naming.claim_by_id(connection, [waits], worker_id=uuid4())
        assert by_id.claims == []
        end(connection, next(c for c in rest.claims if c.delivery_id == entry))
        last = claims.claim_due(connection, worker_id=uuid4(), limit=100).claims
    assert [claim.delivery_id for claim in last] == [waits]


def test_of_two_that_supersede_at_once_one_is_left(engine: Engine) -> None:
    """Who enqueues with a key while another transaction does waits for it, then takes its place."""
    way, done = Way(supersede_key="stop"), []
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk")

    def second() -> None:
        with engine.begin() as connection:
            done.extend(put(connection, way=way))

    with engine.begin() as connection:
        [older] = put(connection, way=way)
        other = threading.Thread(target=second)
        other.start()
        wait_for(lambda: _waiting_for_locks(engine) == 1, 10, "the second one")
    other.join(10)

    with engine.begin() as connection:
        assert rows.delivery(connection, older)["status"] == "superseded"
        assert [rows.delivery(connection, one)["status"] for one in done] == ["pending"]


def test_another_producers_key_of_the_same_name_holds_nothing_back(engine: Engine) -> None:
    """What is held goes as soon as its own producer's older one has ended."""
    way = Way(supersede_key="stop")
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk")
        enqueue(connection, "others", [new_signal()], life=LIFE, way=way)
        ours = put(connection, way=way)[0]
        found = claims.claim_due(connection, worker_id=uuid4(), limit=9).claims
        [newer] = put(connection, way=way)
        [claim] = [one for one in found if one.delivery_id == ours]
        end(connection, claim)
        found = claims.claim_due(connection, worker_id=uuid4(), limit=9).claims
    assert [one.delivery_id for one in found] == [newer]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_key_is_refused_where_the_newest_is_not_seen(engine: Engine, level: str) -> None:
    """A snapshot would miss what was enqueued since; without a key there is nothing to miss."""
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk")
    stricter = engine.execution_options(isolation_level=level)
    with stricter.begin() as connection:
        with pytest.raises(EnqueueError, match=f"{level} transaction"):
            put(connection, way=Way(supersede_key="stop"))
        assert put(connection)


def test_what_blocks_stays_as_long_as_others_wait_behind_it(ordered: Connection) -> None:
    """Pruning lets no successor go; the dead one goes with the retention once nobody waits."""
    ordered.execute(text("UPDATE signalpost.endpoints SET on_dead = 'block'"))
    put(ordered)
    [behind] = put(ordered)
    end(ordered, take(ordered)[0], "dead")
    ordered.execute(text("UPDATE signalpost.alerts SET sent_at = now()"))
    old = "UPDATE signalpost.deliveries SET finished_at = now() - interval '31 days'"
    ordered.execute(text(f"{old} WHERE status = 'dead'"))
    assert pruning.prune_finished(ordered, retention_days=30, limit=10) == 0
    cancelling.cancel(ordered, [behind], actor="tests", why="")
    assert pruning.prune_finished(ordered, retention_days=30, limit=10) == 1


def test_no_block_is_left_where_the_endpoint_no_longer_blocks(ordered: Connection) -> None:
    """A record that blocks while the endpoint is changed to `skip` keeps nobody waiting."""
    ordered.execute(text("UPDATE signalpost.endpoints SET on_dead = 'block'"))
    put(ordered)
    [behind] = put(ordered)
    end(ordered, take(ordered)[0], "dead")
    ordered.execute(text("UPDATE signalpost.endpoints SET on_dead = 'skip'"))
    walking.find_stuck(ordered, after=walking.START, limit=10)
    assert [claim.delivery_id for claim in take(ordered)] == [behind]


def _waiting_for_locks(engine: Engine) -> int:
    with engine.begin() as connection:
        question = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return int(connection.execute(text(question)).scalar_one())


def test_a_newer_signal_supersedes_and_waits_for_what_is_under_way(engine: Engine) -> None:
    """Pending ones end at once; one under way is marked, and the newer one goes after its end."""
    way = Way(supersede_key="stop")
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk")
        first = put(connection, way=way)[0]
        [claim] = claims.claim_due(connection, worker_id=uuid4(), limit=1).claims
        second = put(connection, way=way)[0]
        third = put(connection, way=way)[0]
        other = put(connection, way=Way(supersede_key="other"))[0]
        assert rows.delivery(connection, second)["status"] == "superseded"
        found = claims.claim_due(connection, worker_id=uuid4(), limit=9).claims
        assert [one.delivery_id for one in found] == [other]
        end(connection, claim, "retry")
        assert rows.delivery(connection, first)["status"] == "superseded"
        found = claims.claim_due(connection, worker_id=uuid4(), limit=9).claims
    assert [one.delivery_id for one in found] == [third]


class Crowd:
    """Connections that enqueue, place, claim, end and cancel at once, and what each key saw."""

    def __init__(self, engine: Engine, keys: int, each: int) -> None:
        self.engine, self.keys, self.each = engine, keys, each
        self.enqueued: dict[str, list[UUID]] = defaultdict(list)
        self.claimed: dict[str, list[UUID]] = defaultdict(list)
        self.problems: list[str] = []
        self.done = threading.Event()
        self._guard = threading.Lock()

    def produce(self, number: int) -> None:
        for _ in range(self.each):
            for key in range(number, self.keys, 2):
                with self.engine.begin() as connection:
                    made = put(connection, f"K{key}")[0]
                self.enqueued[f"K{key}"].append(made)

    def work(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self.done.is_set():
            with self.engine.begin() as connection:
                placing.place_new(connection, limit=50)
            with self.engine.connect() as connection:
                look = partial(claims.claim_due, worker_id=UUID(int=seed), limit=5)
                found = rows.insisting(connection, look).claims
                connection.commit()
            with self._guard:
                for claim in found:
                    self.claimed[claim.instrument].append(claim.delivery_id)
            for claim in found:
                how = chance.choice(["delivered", "dead", "retry"])
                with self.engine.connect() as connection:
                    rows.insisting(connection, partial(end, claim=claim, how=how))
                    connection.commit()

    def disturb(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self.done.is_set():
            with self.engine.begin() as connection:
                some = self._pending(connection)
                if some and chance.random() < 0.3:
                    cancelling.cancel(connection, [chance.choice(some)], actor="tests")

    @staticmethod
    def _pending(connection: Connection) -> list[UUID]:
        question = "SELECT id FROM signalpost.deliveries WHERE status = 'pending' LIMIT 40"
        return list(connection.execute(text(question)).scalars())

    def live(self) -> int:
        question = """SELECT count(*) FROM signalpost.deliveries
            WHERE status IN ('pending', 'sending')"""
        with self.engine.connect() as connection:
            return int(connection.execute(text(question)).scalar_one())

    def start(self, work: Callable[[int], None], *seeds: int) -> list[threading.Thread]:
        def guarded(seed: int) -> None:
            try:
                work(seed)
            except Exception as error:  # noqa: BLE001 - told by the test
                self.problems.append(repr(error))

        threads = [threading.Thread(target=guarded, args=(seed,)) for seed in seeds]
        for thread in threads:
            thread.start()
        return threads


def test_no_key_sticks_and_none_is_overtaken_under_concurrency(engine: Engine) -> None:
    """Six connections place, claim, end and cancel at once: every delivery ends, each key in its
    order of enqueueing, never two of a key at a time.
    """
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk", ordered=True)
    crowd = Crowd(engine, keys=8, each=25)
    producers = crowd.start(crowd.produce, 0, 1)
    others = [*crowd.start(crowd.work, 1, 2, 3), *crowd.start(crowd.disturb, 4)]
    for thread in producers:
        thread.join(60)
    deadline = time.monotonic() + 30
    while crowd.live() and time.monotonic() < deadline and not crowd.problems:
        time.sleep(0.05)
    crowd.done.set()
    for thread in others:
        thread.join(60)
    assert (crowd.problems, crowd.live()) == ([], 0)
    for key, claimed in crowd.claimed.items():
        order = list(dict.fromkeys(claimed))
        assert order == [one for one in crowd.enqueued[key] if one in set(order)], key
        # A retry is claimed again before anything else of its key.
        assert order == [one for n, one in enumerate(claimed) if not n or claimed[n - 1] != one]


async def test_an_engine_sends_each_key_in_order_however_often_attempts_fail(
    engine: Engine, database_url: str
) -> None:
    """A receiver that fails a fifth of the time accepts every key in sequence, without a gap."""
    accepted: dict[str, list[int]] = defaultdict(list)
    chance = random.Random(1)

    async def answer(seen: receivers.Seen) -> web.Response:
        if chance.random() < 0.2:
            return web.Response(status=503)
        headers = {name.lower(): value for name, value in seen.headers.items()}
        accepted[headers["x-key"]].append(int(headers["x-signalpost-sequence"]))
        return web.Response(status=201)

    async with receivers.receiver(answer) as receiver:
        with engine.begin() as connection:
            for key in range(5):
                rows.add_endpoint(
                    connection,
                    name=f"desk{key}",
                    url=receiver.url,
                    secret_ciphertext=SEALED,
                    ordered=True,
                    max_retries=50,
                    retry_delay_seconds=0.01,
                    headers=seal({"X-Key": str(key)}, BOX),
                )
            for _ in range(20):
                put(connection)
        async with engine_rig(database_url) as rig:
            await rig.engine.drain()
            await until(lambda: all(len(accepted[str(key)]) == 20 for key in range(5)))
    assert all(accepted[str(key)] == list(range(1, 21)) for key in range(5))


async def test_a_single_message_for_each_is_enough_for_order(
    engine: Engine, database_url: str
) -> None:
    """Deliveries announced one by one go in order, those behind taken as their turn comes."""
    async with receivers.receiver() as receiver:
        with engine.begin() as connection:
            rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED, ordered=True)
            ids = [put(connection)[0] for _ in range(5)]
        async with engine_rig(database_url) as rig:
            await asyncio.gather(*(rig.engine.deliver(one) for one in reversed(ids)))
            await until(lambda: len(receiver.seen) == 5)
    assert [UUID(seen.delivery_id) for seen in receiver.seen] == ids


async def test_a_breaker_opens_waits_probes_and_lets_the_backlog_go(
    engine: Engine, database_url: str
) -> None:
    """A failing endpoint's deliveries wait without attempts; the first success frees them all."""
    well = asyncio.Event()

    async def answer(_: receivers.Seen) -> web.Response:
        return web.Response(status=201 if well.is_set() else 503)

    async with receivers.receiver(answer) as receiver:
        with engine.begin() as connection:
            endpoint_id = rows.add_endpoint(
                connection,
                url=receiver.url,
                secret_ciphertext=SEALED,
                max_retries=100,
                failures=20,
                failing_since=rows.database_now(connection) - timedelta(seconds=60),
            )
            put(connection)
        async with engine_rig(database_url) as rig:
            await rig.engine.drain()
            await until(lambda: [row["kind"] for row in alerts(engine)] == ["breaker_opened"])
            with engine.begin() as connection:
                for number in range(60):
                    put(connection, f"K{number}")
            tally = await rig.engine.drain()
            assert (tally, len(receiver.seen)) == ({}, 1)
            well.set()
            with engine.begin() as connection:
                connection.execute(
                    text("UPDATE signalpost.endpoints SET probe_at = clock_timestamp()")
                )
            await until(lambda: len(receiver.seen) == 62)
    kinds = [row["kind"] for row in alerts(engine)]
    assert kinds == ["breaker_opened", "breaker_closed"]
    assert all(row["endpoint_id"] == endpoint_id for row in alerts(engine))


def alerts(engine: Engine) -> list[Mapping[str, Any]]:
    with engine.connect() as connection:
        return rows.alerts(connection)


async def test_whoever_is_held_for_no_reason_is_found_by_a_running_engine(
    engine: Engine, database_url: str
) -> None:
    """A held row with nobody to promote it, however it came about, is sent within seconds."""
    async with receivers.receiver() as receiver:
        with engine.begin() as connection:
            rows.add_endpoint(connection, url=receiver.url, secret_ciphertext=SEALED, ordered=True)
            put(connection)
            placing.place_new(connection, limit=9)
            connection.execute(text("UPDATE signalpost.deliveries SET held = 'behind'"))
        async with engine_rig(database_url):
            await receiver.wait_for(1)


def test_a_signal_goes_to_the_endpoints_whose_filter_takes_it(engine: Engine) -> None:
    """Globs, sides, actions, producers and confidence decide; names given override them all."""
    filters: dict[str, dict[str, Any]] = {
        "all": {},
        "glob": {"instruments": ["B*", "AA?L"]},
        "literal": {"instruments": ["A_PL"]},
        "other": {"instruments": ["B*"]},
        "side": {"sides": ["sell"]},
        "action": {"actions": ["close"]},
        "mine": {"producers": ["tests"]},
        "theirs": {"producers": ["others"]},
        "sure": {"min_confidence": Decimal("0.9")},
        "unsure": {"min_confidence": Decimal("0.5")},
        "removed": {"removed_at": datetime.now(UTC)},
    }
    with engine.begin() as connection:
        for name, values in filters.items():
            rows.add_endpoint(connection, name=name, **values)
        signal = replace(new_signal(), confidence=Decimal("0.6"))
        [stored] = enqueue(connection, "tests", [signal], life=LIFE)
        [named] = enqueue(connection, "tests", [new_signal()], life=LIFE, endpoints=["other"])
        taken = {delivery.endpoint for delivery in stored.deliveries}
    assert taken == {"all", "glob", "mine", "unsure"}
    assert [delivery.endpoint for delivery in named.deliveries] == ["other"]


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_transaction_that_a_strategy_leaves_open_holds_up_nobody_else(
    engine: Engine, database_url: str, ordered: bool
) -> None:
    """It has superseded one that is being sent; attempts recorded with that one do not wait."""
    gate, answer = receivers.gated()

    question = text(
        "SELECT instrument, status FROM signalpost.deliveries d JOIN signalpost.signals"
        " s ON s.id = d.signal_id WHERE d.position < :last"
    )
    way = Way(supersede_key="stop")
    async with receivers.receiver(answer) as receiver, engine_rig(database_url) as rig:
        with engine.begin() as connection:
            desk = {"url": receiver.url, "secret_ciphertext": SEALED}
            rows.add_endpoint(connection, name="desk", ordered=ordered, **desk)
            put(connection, "AAPL", way=way)
            for number in range(5):
                put(connection, f"K{number}")
            last = connection.execute(text("SELECT max(position) + 1 FROM signalpost.deliveries"))
            values = {"last": last.scalar_one()}
        rig.engine.look(0.0)
        await receiver.wait_for(6)
        with engine.begin() as strategy:
            put(strategy, "AAPL", way=way)
            gate.set()

            def stand() -> dict[str, str]:
                with engine.connect() as connection:
                    return {row[0]: row[1] for row in connection.execute(question, values)}

            await until(lambda: Counter(stand().values())["delivered"] == 5)
            assert stand()["AAPL"] == "sending"
        await until(lambda: stand()["AAPL"] == "delivered")


def test_keys_that_somebody_holds_keep_no_others_from_a_claim(engine: Engine) -> None:
    """As many heads as a claim may take are held; what is behind them is taken, without haste."""
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk", ordered=True)
        held = [put(connection, f"K{number}")[0] for number in range(25)]
        [free] = put(connection, "FREE")
        placing.place_new(connection, limit=50)
    with engine.begin() as strategy, engine.begin() as connection:
        keys.lock_keys_of(strategy, held)
        room = Room(free=20, reserved=2)
        found = claims.claim_due(connection, worker_id=uuid4(), limit=20, room=room)
        assert [one.delivery_id for one in found.claims] == [free]
        assert found.key_held
        again = claims.claim_due(connection, worker_id=uuid4(), limit=20, room=room)
    # What is held was not kept back for want of room: room is no reason to look again at once.
    assert (again.claims, again.more, bool(again.kept)) == ([], False, False)
