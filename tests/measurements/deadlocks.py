"""Everything that writes, all at once, on few rows: are there deadlocks, is anything stuck after?

    python -m tests.measurements.deadlocks [seconds]

Threads on connections of their own enqueue (one, many, superseding, in transactions that last),
place, claim by turn and by name, record in groups (accepted, refused, lost, late), expire, cancel,
replay, pause, resume, rotate secrets, change endpoints, take back and prune. PostgreSQL itself
counts the deadlocks, of which there must be none; in the end whatever still lives must be
deliverable. Exit code 1 otherwise. Claims and records that gave up waiting for a lock (after
250 ms, to be done again) are counted apart.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from signalpost.core.lifecycle import Decision, Status
from signalpost.core.outcomes import Answer, Failure, Outcome, Phase, Verdict
from signalpost.core.pausing import Pause
from signalpost.database import is_lock_timeout, migrate, sync_engine
from signalpost.errors import SignalpostError
from signalpost.repository import (
    breakers,
    cancelling,
    claims,
    endpoint_changes,
    expiring,
    naming,
    pauses,
    placing,
    pruning,
    records,
    replaying,
    rotation,
    superseding,
    unblocking,
    walking,
)
from signalpost.repository.claimed import Claim
from signalpost.repository.enqueueing import Life, NewSignal, Way, enqueue
from signalpost.repository.recorded import Record
from signalpost.settings import Settings
from tests import rows, stack
from tests.engines import BOX, SEALED

SETTINGS = Settings(database_url="postgresql://of-no-use/", signal_ttl_seconds=6000)
SECONDS = 20.0
ENDPOINTS: dict[str, dict[str, Any]] = {
    "desk": {"ordered": True},
    "floor": {"ordered": True, "on_dead": "block"},
    "plain": {},
    "narrow": {"max_in_flight": 5, "rate_per_second": 200.0},
}
ENDS = {
    "accepted": (201, Outcome.DELIVERED, Decision(Status.DELIVERED)),
    "refused": (404, Outcome.RETRY, Decision(Status.PENDING, "http_404", 0.0)),
    "rejected": (422, Outcome.REJECTED, Decision(Status.DEAD, "rejected")),
    "lost": (None, Outcome.UNKNOWN, Decision(Status.PENDING, "claim_lost", 0.0)),
}


class Storm:
    """What all threads share: the database, what is claimed, and what went wrong."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.over = threading.Event()
        self.acts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.gave_up: Counter[str] = Counter()
        self.held: list[Claim] = []
        self.guard = threading.Lock()

    def run(self, act: Callable[[Connection, random.Random], None], seed: int) -> None:
        chance = random.Random(seed)
        while not self.over.is_set():
            try:
                with self.engine.begin() as connection:
                    act(connection, chance)
                    # Longer than it would take, so that others meet it half done.
                    time.sleep(chance.random() * 0.003)
                self.acts[act.__name__] += 1
            except SignalpostError:
                pass
            except DBAPIError as error:
                if is_lock_timeout(error):
                    self.gave_up[act.__name__] += 1
                    continue
                self.errors[f"{act.__name__}: {type(error.orig).__name__}"] += 1

    def enqueue(self, connection: Connection, chance: random.Random) -> None:
        made = [_signal(f"K{chance.randrange(6)}") for _ in range(chance.choice([1, 1, 1, 20]))]
        way = Way(
            high=chance.random() < 0.2,
            ordering_key=chance.choice([None, None, "", "\u00e9\u2603 'x'", "K" * 200]),
            supersede_key=chance.choice([None, None, "stop", "entry"]),
        )
        life = Life(default_ttl_seconds=chance.choice([0.3, 60.0, 60.0]))
        enqueue(connection, "storm", made, life=life, way=way)

    def place(self, connection: Connection, chance: random.Random) -> None:
        placing.place_new(connection, limit=100)

    def claim(self, connection: Connection, chance: random.Random) -> None:
        found = claims.claim_due(connection, worker_id=UUID(int=7), limit=30).claims
        self._keep(found)

    def claim_by_name(self, connection: Connection, chance: random.Random) -> None:
        some = _some(connection, "pending", chance, 8)
        self._keep(naming.claim_by_id(connection, some, worker_id=UUID(int=7)).claims)

    def _keep(self, found: list[Claim]) -> None:
        with self.guard:
            self.held.extend(found)

    def record(self, connection: Connection, chance: random.Random) -> None:
        with self.guard:
            chance.shuffle(self.held)
            group, self.held = self.held[:20], self.held[20:]
        if not group:
            time.sleep(0.002)
            return
        try:
            with connection.begin_nested():
                records.record(connection, [_record(one, chance) for one in group])
        except DBAPIError:
            self._keep(group)
            raise
        if chance.random() < 0.1:
            self._keep(group[:2])

    def expire(self, connection: Connection, chance: random.Random) -> None:
        if chance.random() < 0.5:
            expiring.expire_pending(connection, limit=50)
        else:
            walking.find_stuck(connection, after=walking.START, limit=50)

    def cancel(self, connection: Connection, chance: random.Random) -> None:
        some = _some(connection, chance.choice(["pending", "sending"]), chance, 3)
        cancelling.cancel(connection, some, actor="storm")

    def replay(self, connection: Connection, chance: random.Random) -> None:
        if chance.random() < 0.2:
            unblocking.unblock_endpoint(connection, chance.randrange(1, len(ENDPOINTS) + 1))
            return
        some = _some(connection, chance.choice(["dead", "expired"]), chance, 5)
        replaying.replay(
            connection,
            some,
            actor="storm",
            even_unknown=True,
            even_expired_ttl_seconds=60,
            even_superseded=chance.random() < 0.5,
        )

    def pause(self, connection: Connection, chance: random.Random) -> None:
        what = chance.choice(
            [Pause("all"), Pause("instrument", "K1*"), Pause("producer", "storm", None, True)]
        )
        if chance.random() < 0.5:
            pauses.unpark(connection, limit=500)
            return
        standing = pauses.list_pauses(connection)
        if standing:
            row = standing[0]
            old = Pause(row.scope, row.value, row.endpoint_id, row.entries_only)
            if chance.random() < 0.5:
                held = pauses.held_by(connection, old).deliveries
                cancelling.cancel(connection, held[:20], actor="storm")
            pauses.resume(connection, old, named="it", actor="storm", why="")
        elif chance.random() < 0.1:
            pauses.pause(connection, what, named="it", actor="storm", why="")

    def tend(self, connection: Connection, chance: random.Random) -> None:
        what = chance.randrange(4)
        if what == 0:
            superseding.let_stuck_go(connection, limit=50)
        elif what == 1:
            breakers.tell_long_open(connection)
        elif what == 2:
            pruning.prune_finished(connection, retention_days=1, limit=50)
        else:
            change: dict[str, object] = {"timeout_seconds": float(chance.randrange(5, 300))}
            change |= {"on_dead": chance.choice(["skip", "block"])}
            name = chance.choice(list(ENDPOINTS))
            endpoint_changes.change_endpoint(connection, name, change, SETTINGS, actor="storm")

    def rotate(self, connection: Connection, chance: random.Random) -> None:
        name = chance.choice(list(ENDPOINTS))
        if chance.random() < 0.5:
            rotation.finish_rotation(connection, name, actor="storm")
        else:
            secret = uuid4().hex
            rotation.rotate_secret(connection, name, secret, BOX, grace_seconds=60, actor="storm")


def _signal(instrument: str) -> NewSignal:
    made = uuid4()
    return NewSignal(
        id=made,
        key=str(made),
        body=b"{}",
        instrument=instrument,
        side="buy",
        action="open",
        expires_at=None,
    )


def _some(connection: Connection, status: str, chance: random.Random, most: int) -> list[UUID]:
    question = "SELECT id FROM signalpost.deliveries WHERE status = :status LIMIT 60"
    found = list(connection.execute(text(question), {"status": status}).scalars())
    chance.shuffle(found)
    return found[:most]


def _record(claim: Claim, chance: random.Random) -> Record:
    code, outcome, decision = ENDS[chance.choice(["accepted", "accepted", *ENDS])]
    failure = Failure.LOST if code is None else None
    return Record(
        delivery_id=claim.delivery_id,
        claim_id=claim.claim_id,
        attempt=claim.attempt,
        worker_id=claim.worker_id,
        started_at=claim.claimed_at,
        answer=Answer(Phase.BODY, 0.1, status_code=code, failure=failure),
        verdict=Verdict(outcome, "storm", counted=True, maybe_received=code is None),
        decision=decision,
        claim=claim,
    )


def settle(engine: Engine, held: list[Claim]) -> int:
    """End everything in order; how many deliveries could not be."""
    chance = random.Random(1)
    with engine.begin() as connection:
        for row in pauses.list_pauses(connection):
            old = Pause(row.scope, row.value, row.endpoint_id, row.entries_only)
            pauses.resume(connection, old, named="it", actor="storm", why="")
    question = text("SELECT count(*) FROM signalpost.deliveries WHERE status = ANY(:live)")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with engine.begin() as connection:
            pauses.unpark(connection, limit=10_000)
            superseding.let_stuck_go(connection, limit=1000)
            unblocking.unblock(connection, _some(connection, "dead", chance, 60))
            connection.execute(text("UPDATE signalpost.endpoints SET opened_at = NULL"))
            held += claims.claims_of(connection, [UUID(int=7)], limit=10_000)
            ends = {one.delivery_id: one for one in held}.values()
            for one in ends:
                records.record(connection, [replace(_record(one, chance), decision=_ACCEPTED)])
            held = []
            placing.place_new(connection, limit=500)
            claims.claim_due(connection, worker_id=UUID(int=7), limit=200)
            if not connection.execute(question, {"live": ["pending", "sending"]}).scalar_one():
                return 0
    with engine.connect() as connection:
        return int(connection.execute(question, {"live": ["pending", "sending"]}).scalar_one())


_ACCEPTED = Decision(Status.DELIVERED)


def main(seconds: float) -> int:
    """Let the storm blow, then count."""
    with tempfile.TemporaryDirectory(prefix="signalpost-measure-") as folder:
        url = stack.postgres_in(Path(folder)).url()
        migrate(url)
        engine = sync_engine(url, pool_size=40)
        with engine.begin() as connection:
            for name, policy in ENDPOINTS.items():
                rows.add_endpoint(connection, name=name, secret_ciphertext=SEALED, **policy)
        storm = Storm(engine)
        twice = (storm.enqueue, storm.place, storm.claim, storm.record, storm.claim_by_name)
        once = (storm.expire, storm.cancel, storm.replay, storm.pause, storm.tend, storm.rotate)
        threads = [
            threading.Thread(target=storm.run, args=(act, seed))
            for seed, act in enumerate((*twice, *twice, *once))
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        storm.over.set()
        for thread in threads:
            thread.join(60)
        with engine.connect() as connection:
            question = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
            connection.execute(text("SELECT pg_stat_force_next_flush()"))
            deadlocks = connection.execute(text(question)).scalar_one()
        stuck = settle(engine, storm.held)
        engine.dispose()
        stack.stop_all()
    print(f"transactions in {seconds:g} s: {dict(storm.acts)}")
    print(f"gave up waiting: {dict(storm.gave_up)}")
    print(f"errors: {dict(storm.errors)}; deadlocks: {deadlocks}; stuck in the end: {stuck}")
    return 1 if deadlocks or stuck or storm.errors else 0


if __name__ == "__main__":
    raise SystemExit(main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))
