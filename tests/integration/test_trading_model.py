"""Everything that may happen to deliveries, in random order, against PostgreSQL and a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, Engine, text

from signalpost.core.lifecycle import Decision, Status, is_legal
from signalpost.core.outcomes import Answer, Failure, Outcome, Phase, Verdict
from signalpost.core.pausing import Pause
from signalpost.repository import (
    cancelling,
    claims,
    expiring,
    naming,
    pauses,
    placing,
    records,
    replaying,
    superseding,
    unblocking,
    walking,
)
from signalpost.repository.claimed import Claim
from signalpost.repository.enqueueing import Life, NewSignal, Way, enqueue
from signalpost.repository.recorded import Record
from tests import rows

WORKER = UUID(int=7)
NUMBERS = st.integers(0, 99)
KEYS = ("AAPL", "MSFT")
PAUSES = (Pause("all"), Pause("instrument", "AA*"), Pause("producer", "tests", None, True))

STATE = text("""
SELECT d.id, d.status, d.endpoint_id, d.ordering_key, d.ordered, d.position, d.sequence, d.held,
    d.parked, d.priority, d.expires_at, d.attempts, d.claim_id, s.instrument
FROM signalpost.deliveries d JOIN signalpost.signals s ON s.id = d.signal_id ORDER BY d.position
""")
DUE = text("UPDATE signalpost.deliveries SET next_attempt_at = :now WHERE signal_id = :id")
TOLD = text("SELECT delivery_id FROM signalpost.alerts WHERE kind IN ('dead', 'expired')")


class Trading(RuleBasedStateMachine):
    """The model: what was enqueued, what is claimed, how far time has gone, what is paused."""

    engine: ClassVar[Engine]

    def __init__(self) -> None:
        super().__init__()
        with self.database() as connection:
            connection.execute(
                text("TRUNCATE signalpost.endpoints, signalpost.signals, signalpost.pauses CASCADE")
            )
            connection.execute(text("TRUNCATE signalpost.orderings"))
            self.start: datetime = rows.database_now(connection)
        self.ahead = 0.0
        self.most: int | None = None
        self.flying: list[Claim] = []
        self.known: dict[UUID, Status] = {}
        self.numbered: set[UUID] = set()
        self.first_claims: dict[tuple[int, str], list[UUID]] = {}
        self.paused: set[Pause] = set()
        self.touched: set[UUID] = set()

    @contextmanager
    def database(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            yield connection

    @property
    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.ahead)

    @initialize(on_dead=st.sampled_from(["skip", "block"]), most=st.sampled_from([1, 3, None]))
    def endpoints(self, on_dead: str, most: int | None) -> None:
        with self.database() as connection:
            rows.add_endpoint(connection, name="ordered", ordered=True, on_dead=on_dead)
            rows.add_endpoint(connection, name="plain", max_in_flight=most)
        self.most = most

    @rule(
        key=st.sampled_from(KEYS),
        high=st.booleans(),
        life=st.sampled_from([5.0, 600.0]),
        replaces=st.sampled_from([None, None, "stop"]),
    )
    def enqueue(self, key: str, high: bool, life: float, replaces: str | None) -> None:
        signal_id = uuid4()
        signal = NewSignal(
            id=signal_id,
            key=str(signal_id),
            body=b"{}",
            instrument=key,
            side="buy",
            action="open",
            expires_at=None,
        )
        way = Way(high=high, supersede_key=replaces)
        with self.database() as connection:
            enqueue(connection, "tests", [signal], life=Life(life), way=way, now=self.now)
            connection.execute(
                text(
                    "UPDATE signalpost.deliveries SET next_attempt_at = :now WHERE signal_id = :id"
                ),
                {"now": self.now, "id": signal_id},
            )

    @rule(limit=st.integers(1, 4), high_only=st.booleans())
    def claim(self, limit: int, high_only: bool) -> None:
        with self.database() as connection:
            placing.place_new(connection, limit=100)
        before = self.state()
        with self.database() as connection:
            found = claims.claim_due(
                connection, worker_id=WORKER, limit=limit, high_only=high_only, now=self.now
            )
        self.check_claims(found.claims, before)
        if high_only:
            assert all(claim.priority == 1 for claim in found.claims)

    @rule(number=NUMBERS, many=st.integers(1, 3))
    def claim_by_id(self, number: int, many: int) -> None:
        before = self.state()
        pending = [key for key, row in before.items() if row.status == "pending"]
        if not pending:
            return
        first = number % len(pending)
        wanted = pending[first : first + many]
        with self.database() as connection:
            found = naming.claim_by_id(connection, wanted, worker_id=WORKER, now=self.now)
        assert {claim.delivery_id for claim in found.claims} <= set(wanted)
        self.check_claims(found.claims, before)

    def check_claims(self, found: list[Claim], before: dict[UUID, Any]) -> None:
        for key, row in before.items():
            self.see_number(key, row)
        for claim in found:
            row = before[claim.delivery_id]
            assert claim.delivery_id not in {other.delivery_id for other in self.flying}
            assert row.expires_at > self.now
            assert not any(
                pause.holds(
                    producer_id="tests",
                    instrument=row.instrument,
                    endpoint_id=row.endpoint_id,
                    high=row.priority == 1,
                )
                for pause in self.paused
            )
            earlier = [
                other
                for other in before.values()
                if other.status in ("pending", "sending")
                and (other.endpoint_id, other.ordering_key) == (row.endpoint_id, row.ordering_key)
                and other.position < row.position
                # Ended by this very claim.
                and not (other.status == "pending" and other.expires_at <= self.now + LEAST)
            ]
            if row.ordered or row.priority == 1:
                # A replay comes back among the waiting, while a later one may be the head already.
                assert all(other.id in self.touched for other in earlier)
            if row.ordered and row.sequence is None:
                given = self.first_claims.setdefault((row.endpoint_id, row.ordering_key), [])
                given.append(claim.delivery_id)
                assert claim.sequence == len(given)
            self.flying.append(claim)
        places = {key: number for number, key in enumerate(before)}
        self.flying.sort(key=lambda claim: places[claim.delivery_id])

    @precondition(lambda self: self.flying)
    @rule(
        number=NUMBERS,
        how=st.sampled_from(["delivered", "dead", "retry", "released", "lost", "unknown"]),
    )
    def record(self, number: int, how: str) -> None:
        claim = self.flying.pop(number % len(self.flying))
        with self.database() as connection:
            records.record(connection, [made(claim, how, number)], now=self.now)

    @precondition(lambda self: self.flying)
    @rule(number=NUMBERS)
    def take_back_and_hear_late(self, number: int) -> None:
        claim = self.flying.pop(number % len(self.flying))
        with self.database() as connection:
            records.record(connection, [made(claim, "lost")], now=self.now)
        with self.database() as connection:
            records.record(connection, [made(claim, "delivered")], now=self.now)

    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        known = list(self.state())
        if known:
            one = known[number % len(known)]
            with self.database() as connection:
                cancelling.cancel(connection, [one], actor="tests", now=self.now)

    @rule(number=NUMBERS)
    def replay(self, number: int) -> None:
        ended = [key for key, row in self.state().items() if row.status in ("dead", "expired")]
        if not ended:
            return
        one = ended[number % len(ended)]
        with self.database() as connection:
            replaying.replay(
                connection,
                [one],
                actor="tests",
                even_unknown=True,
                even_expired_ttl_seconds=60,
                even_superseded=number % 2 == 0,
                now=self.now,
            )
        self.touched.add(one)

    @rule(what=st.sampled_from(PAUSES))
    def pause(self, what: Pause) -> None:
        with self.database() as connection:
            pauses.pause(connection, what, named="x", actor="tests", why="")
        self.paused.add(what)

    @precondition(lambda self: self.paused)
    @rule(number=NUMBERS)
    def resume(self, number: int) -> None:
        what = sorted(self.paused, key=str)[number % len(self.paused)]
        with self.database() as connection:
            assert pauses.resume(connection, what, named="x", actor="tests", why="")
            # The slow start is another test's matter.
            connection.execute(text("UPDATE signalpost.endpoints SET released_at = NULL"))
        with self.database() as connection:
            pauses.unpark(connection, limit=100)
        self.paused.remove(what)

    @rule(seconds=st.sampled_from([0.5, 6.0]))
    def wait(self, seconds: float) -> None:
        self.ahead += seconds

    @rule()
    def sweep(self) -> None:
        with self.database() as connection:
            expiring.expire_pending(connection, limit=100, now=self.now)

    def state(self) -> dict[UUID, Any]:
        with self.database() as connection:
            return {row.id: row for row in connection.execute(STATE)}

    @invariant()
    def every_move_is_legal_and_every_end_is_told(self) -> None:
        state = self.state()
        with self.database() as connection:
            told = set(connection.execute(TOLD).scalars())
        for key, row in state.items():
            now = Status(row.status)
            was = self.known.get(key, Status.PENDING)
            assert was is now or is_legal(was, now) or self.reached(was, now), (was, now)
            self.known[key] = now
            self.see_number(key, row)
            if now in (Status.DEAD, Status.EXPIRED):
                assert key in told
        assert len(self.known) == len(state)

    def see_number(self, key: UUID, row: Any) -> None:
        # What ends without ever having been sent gives its number back; a replay's is spent.
        if row.sequence is None and key in self.numbered and row.status != "pending":
            self.first_claims[row.endpoint_id, row.ordering_key].remove(key)
        if row.sequence is None:
            self.numbered.discard(key)
        else:
            self.numbered.add(key)

    @staticmethod
    def reached(was: Status, now: Status) -> bool:
        # One rule makes two moves: taken back, then delivered after all.
        return is_legal(was, Status.PENDING) and is_legal(Status.PENDING, now)

    @invariant()
    def limits_bind_and_one_of_a_key_flies(self) -> None:
        state = self.state()
        sending = [row for row in state.values() if row.status == "sending"]
        assert {row.id for row in sending} == {claim.delivery_id for claim in self.flying}
        keys = [(row.endpoint_id, row.ordering_key) for row in sending if row.ordered]
        assert len(keys) == len(set(keys))
        if self.most is not None:
            assert sum(1 for row in sending if not row.ordered) <= self.most

    def teardown(self) -> None:
        """Everything ends once pauses are over: nothing is stuck, nothing lost."""
        with self.database() as connection:
            for what in self.paused:
                pauses.resume(connection, what, named="x", actor="tests", why="")
            connection.execute(text("UPDATE signalpost.endpoints SET released_at = NULL"))
        self.paused.clear()
        with self.database() as connection:
            assert walking.find_stuck(connection, after=walking.START, limit=100).stuck == 0
            assert superseding.let_stuck_go(connection, limit=100) == []
            pauses.unpark(connection, limit=1000)
        live: list[Any] = []
        for _ in range(200):
            self.ahead += 1
            blocked = self.let_the_dead_be()
            for claim in list(self.flying):
                self.flying.remove(claim)
                with self.database() as connection:
                    records.record(connection, [made(claim, "delivered")], now=self.now)
            self.claim(limit=4, high_only=False)
            live = [row for row in self.state().values() if row.status in ("pending", "sending")]
            if not live and not blocked:
                return
        raise AssertionError(f"stuck: {live}")

    def let_the_dead_be(self) -> bool:
        # A person decides at last for whatever blocks.
        with self.database() as connection:
            found = connection.execute(
                text("UPDATE signalpost.endpoints SET on_dead = 'skip' RETURNING id")
            )
            blocked = connection.execute(
                text("SELECT id FROM signalpost.deliveries WHERE status = 'dead' AND ordered")
            ).scalars()
            assert found.rowcount in (0, 2)
            return unblocking.unblock(connection, list(blocked)) > 0


LEAST = timedelta(seconds=0.1)

MEANINGS: dict[str, tuple[Phase, Failure | None, Outcome, Decision]] = {
    "delivered": (Phase.BODY, None, Outcome.DELIVERED, Decision(Status.DELIVERED)),
    "dead": (Phase.BODY, None, Outcome.REJECTED, Decision(Status.DEAD, "rejected")),
    "retry": (Phase.BODY, None, Outcome.RETRY, Decision(Status.PENDING, "http_503", 0.3)),
    "released": (Phase.NONE, Failure.PAUSED, Outcome.RELEASED, Decision(Status.PENDING, "x", 0.0)),
    "lost": (Phase.NONE, Failure.LOST, Outcome.UNKNOWN, Decision(Status.PENDING, "lost", 0.0)),
    "unknown": (Phase.SENT, Failure.TIMEOUT, Outcome.UNKNOWN, Decision(Status.DEAD, "unknown")),
}


def made(claim: Claim, how: str, number: int = 0) -> Record:
    phase, failure, outcome, decision = MEANINGS[how]
    if decision.delay_seconds is not None:
        decision = replace(decision, delay_seconds=decision.delay_seconds + number / 1e5)
    return Record(
        delivery_id=claim.delivery_id,
        claim_id=claim.claim_id,
        attempt=claim.attempt,
        worker_id=WORKER,
        started_at=claim.claimed_at,
        answer=Answer(phase, 0.1, None if failure else 200, failure),
        verdict=Verdict(
            outcome, how, counted=how != "released", maybe_received=how in ("lost", "unknown")
        ),
        decision=decision,
        claim=claim,
    )


def test_whatever_happens_in_whatever_order_nothing_is_lost_doubled_or_overtaken(
    engine: Engine,
) -> None:
    """Random histories of everything that moves a delivery keep every promise of the model."""
    machine = type("Here", (Trading,), {"engine": engine})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=15,
            stateful_step_count=30,
            phases=[Stage.generate],
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
