"""Order where several act at once: each race that a lock decides, played move by move, and a storm.

Two connections make the moves in the order that would go wrong, so each of these fails for certain
without the lock or the check it is about.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from signalpost.repository import (
    cancelling,
    claims,
    expiring,
    keys,
    naming,
    placing,
    replaying,
    walking,
)
from signalpost.repository.claimed import Claim
from signalpost.repository.enqueueing import Way
from tests import rows
from tests.integration.test_order import LIFE, end, put

MORTAL = replace(LIFE, ttl_seconds=5)
STOP = Way(supersede_key="stop")


class Two:
    """Two connections on one database, each with a transaction open."""

    def __init__(self, engine: Engine) -> None:
        self._ends = ExitStack()
        self.first = self._open(engine)
        self.second = self._open(engine)

    def _open(self, engine: Engine) -> Connection:
        connection = self._ends.enter_context(engine.connect())
        connection.execute(text("SET lock_timeout = '2s'"))
        connection.commit()
        return connection

    def close(self) -> None:
        self._ends.close()


@pytest.fixture
def two(engine: Engine) -> Iterator[Two]:
    """A database with an ordered endpoint, seen by two."""
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk", ordered=True)
    found = Two(engine)
    yield found
    found.close()


def claim(connection: Connection, **values: object) -> list[Claim]:
    return claims.claim_due(connection, worker_id=uuid4(), limit=100, **values).claims  # type: ignore[arg-type]  # values are its own


def _recorded(connection: Connection, _: UUID, held: list[Claim]) -> None:
    end(connection, held[0])


def _cancelled(connection: Connection, head: UUID, _: list[Claim]) -> None:
    cancelling.cancel(connection, [head], actor="tests")


def _swept(connection: Connection, _: UUID, __: list[Claim]) -> None:
    later = rows.database_now(connection) + timedelta(seconds=6)
    assert len(expiring.expire_pending(connection, limit=9, now=later)) == 1


def _met_by_a_claim(connection: Connection, _: UUID, __: list[Claim]) -> None:
    later = rows.database_now(connection) + timedelta(seconds=6)
    assert claim(connection, now=later) == []


def _superseded(connection: Connection, _: UUID, __: list[Claim]) -> None:
    put(connection, "MSFT", way=replace(STOP, ordering_key="MSFT"))


@pytest.mark.parametrize(
    "ends",
    [_recorded, _cancelled, _swept, _met_by_a_claim, _superseded],
    ids=lambda it: it.__name__,
)
def test_whoever_comes_while_the_one_before_is_being_ended_is_not_forgotten(
    two: Two, ends: Callable[[Connection, UUID, list[Claim]], None]
) -> None:
    """One that is placed between the end of its predecessor and that end's commit goes next."""
    head = put(two.first, life=MORTAL, way=STOP)[0]
    placing.place_new(two.first, limit=9)
    held = claim(two.first) if ends is _recorded else []
    two.first.commit()
    ends(two.first, head, held)
    after = put(two.second)[0]
    two.second.commit()
    placed = placing.place_new(two.second, limit=9)
    assert placed.heads == []
    two.second.commit()
    two.first.commit()
    placing.place_new(two.second, limit=9)
    assert after in {one.delivery_id for one in claim(two.second)}


def test_a_claim_passes_over_a_key_that_somebody_holds(two: Two) -> None:
    """It neither waits for the lock nor goes without it: both would end in a deadlock."""
    head = put(two.first)[0]
    placing.place_new(two.first, limit=9)
    two.first.commit()
    keys.lock_keys_of(two.first, [head])
    found = claims.claim_due(two.second, worker_id=uuid4(), limit=9)
    assert (found.claims, found.key_held) == ([], True)
    two.second.commit()
    cancelling.cancel(two.first, [head], actor="tests")
    two.first.commit()
    assert rows.delivery(two.second, head)["status"] == "cancelled"


def test_two_claims_of_one_head_bring_one(two: Two) -> None:
    """The second one passes it over, by name or not, and its number is given once."""
    head = put(two.first)[0]
    placing.place_new(two.first, limit=9)
    two.first.commit()
    [one] = claim(two.first)
    assert claim(two.second) == []
    assert naming.claim_by_id(two.second, [head], worker_id=uuid4()).claims == []
    two.first.commit()
    assert claim(two.second) == []
    assert rows.delivery(two.second, head)["claim_id"] == one.claim_id
    numbers = two.second.execute(text("SELECT sequence FROM signalpost.orderings")).scalars().all()
    assert numbers == [1]


def test_old_news_moves_nothing_while_a_newer_claim_is_under_way(two: Two) -> None:
    """A failure of a claim that was taken back ends neither the delivery nor its key's turn."""
    head, after = put(two.first)[0], put(two.first)[0]
    placing.place_new(two.first, limit=9)
    [lost] = claim(two.first)
    end(two.first, lost, "retry")
    [again] = claim(two.first)
    two.first.commit()
    end(two.second, lost, "dead")
    two.second.commit()
    stands = rows.delivery(two.first, head)
    assert (stands["status"], stands["claim_id"]) == ("sending", again.claim_id)
    assert claim(two.second) == []
    two.second.commit()
    end(two.first, again)
    assert [one.delivery_id for one in claim(two.first)] == [after]


def test_nothing_goes_beside_one_that_is_under_way(two: Two) -> None:
    """While a delivery is being sent, placing and walking let no other one of its key go."""
    put(two.first)
    placing.place_new(two.first, limit=9)
    [under_way] = claim(two.first)
    put(two.first)
    for _ in range(2):
        assert placing.place_new(two.first, limit=9).heads == []
        assert walking.find_stuck(two.first, after=walking.START, limit=9).stuck == 0
    assert placing.promote(two.first, [under_way.key] if under_way.key else []) == []
    assert claim(two.first) == []


@pytest.mark.parametrize("ends", [_cancelled, _swept, _superseded], ids=lambda it: it.__name__)
def test_a_number_that_nobody_was_sent_is_given_again(
    two: Two, ends: Callable[[Connection, UUID, list[Claim]], None]
) -> None:
    """One that was claimed, given back before its connection, and then ended leaves no gap."""
    head = put(two.first, life=MORTAL, way=STOP)[0]
    placing.place_new(two.first, limit=9)
    [one] = claim(two.first)
    end(two.first, one, "released")
    ends(two.first, head, [])
    put(two.first)
    placing.place_new(two.first, limit=9)
    numbers = {found.instrument: found.sequence for found in claim(two.first)}
    assert (one.sequence, numbers["AAPL"]) == (1, 1)


class Storm:
    """Threads that do all there is to one endpoint's keys, and what came of it, key by key."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.over = threading.Event()
        self.problems: list[str] = []
        self.numbers: dict[str, list[tuple[int, UUID, int]]] = defaultdict(list)
        self.under_way: dict[str, UUID] = {}
        self.guard = threading.Lock()

    def run(self, act: Callable[[random.Random], None], seed: int) -> threading.Thread:
        def loop() -> None:
            chance = random.Random(seed)
            try:
                while not self.over.is_set():
                    act(chance)
            except Exception as error:  # noqa: BLE001 - told by the test
                self.problems.append(repr(error)[:500])

        thread = threading.Thread(target=loop)
        thread.start()
        return thread

    def commit_late(self, connection: Connection, chance: random.Random) -> None:
        """Leave the others time to see what is not committed yet."""
        time.sleep(chance.random() * 0.004)
        connection.commit()

    def enqueue(self, chance: random.Random) -> None:
        with self.engine.connect() as connection:
            way = Way(supersede_key=chance.choice([None, None, "stop"]))
            put(connection, f"K{chance.randrange(4)}", way=way)
            self.commit_late(connection, chance)

    def deliver(self, chance: random.Random) -> None:
        with self.engine.connect() as connection:
            placing.place_new(connection, limit=50)
            self.commit_late(connection, chance)
            found = rows.insisting(connection, claim)
            connection.commit()
            for one in found:
                self._begun(one)
            for one in found:
                how = chance.choice(["delivered", "delivered", "dead", "retry", "lost"])
                with self.guard:
                    del self.under_way[one.ordering_key]
                kind = "retry" if how == "lost" else how
                rows.insisting(connection, partial(end, claim=one, how=kind))
                self.commit_late(connection, chance)
                if how == "lost":
                    # The worker lives after all, and has news of its old claim.
                    rows.insisting(connection, partial(end, claim=one, how="dead"))
                    connection.commit()

    def _begun(self, one: Claim) -> None:
        with self.guard:
            if one.ordering_key in self.under_way:
                self.problems.append(f"two of {one.ordering_key} at once")
            self.under_way[one.ordering_key] = one.delivery_id
            seen = self.numbers[one.ordering_key]
            mark = (one.sequence or 0, one.delivery_id, one.replays)
            if not seen or seen[-1] != mark:
                seen.append(mark)

    def disturb(self, chance: random.Random) -> None:
        with self.engine.connect() as connection:
            some = self._some(connection, "pending", chance)
            if some and chance.random() < 0.5:
                cancelling.cancel(connection, some, actor="tests")
            elif dead := self._some(connection, "dead", chance):
                replaying.replay(connection, dead, actor="tests", even_unknown=True)
            self.commit_late(connection, chance)

    @staticmethod
    def _some(connection: Connection, status: str, chance: random.Random) -> list[UUID]:
        question = "SELECT id FROM signalpost.deliveries WHERE status = :status LIMIT 20"
        found = list(connection.execute(text(question), {"status": status}).scalars())
        return found and [chance.choice(found)]


def test_in_a_storm_each_key_goes_one_at_a_time_numbered_without_a_gap(engine: Engine) -> None:
    """Enqueues, supersedes, claims, lost claims, replays and cancels at once, with slow commits."""
    with engine.begin() as connection:
        rows.add_endpoint(connection, name="desk", ordered=True)
    storm = Storm(engine)
    acts = [storm.enqueue, storm.deliver, storm.deliver, storm.deliver, storm.disturb]
    threads = [storm.run(act, seed) for seed, act in enumerate(acts)]
    time.sleep(1.5)
    storm.over.set()
    for thread in threads:
        thread.join(20)
    storm.over.clear()
    chance = random.Random(9)
    for _ in range(3000):
        if storm.problems or not _live(engine):
            break
        storm.deliver(chance)
    assert (storm.problems, _live(engine)) == ([], 0)
    for key, seen in storm.numbers.items():
        assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1)), key


def _live(engine: Engine) -> int:
    question = (
        "SELECT count(*) FROM signalpost.deliveries WHERE status IN ('pending', 'sending')"
        " AND held IS DISTINCT FROM 'superseding'"
    )
    with engine.connect() as connection:
        return int(connection.execute(text(question)).scalar_one())
