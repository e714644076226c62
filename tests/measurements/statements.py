"""What preparing saves: the statements of one delivery's way, prepared and planned anew each time.

    python -m tests.measurements.statements

One connection each, in turns, PostgreSQL with fsync off, so that planning shows; each time is that
of the statement without its commit, medians.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from sqlalchemy import Engine

from signalpost.core.lifecycle import Decision, Status
from signalpost.core.outcomes import Answer, Outcome, Phase, Verdict
from signalpost.database import migrate, sync_engine
from signalpost.repository.enqueueing import Life, enqueue
from signalpost.repository.naming import claim_by_id
from signalpost.repository.recognising import NewSignal
from signalpost.repository.recorded import Record
from signalpost.repository.records import record
from tests import rows, stack

ROUNDS, WARM = 400, 20


class Watch:
    """How long each statement took, in milliseconds, by name."""

    def __init__(self) -> None:
        self.took: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.took[what].append((time.perf_counter() - began) * 1000)

    def median(self, what: str) -> float:
        return statistics.median(self.took[what][WARM:])


def deliver_one(engine: Engine, watch: Watch) -> None:
    """Enqueue one signal, claim its delivery by id and record that it was accepted."""
    worker_id = uuid4()
    signal = NewSignal(uuid4(), uuid4().hex, b"{}", "IBM", "buy", "open", None, None)
    life = Life(default_ttl_seconds=3600.0)
    with engine.begin() as connection, watch.timed("enqueue"):
        [stored] = enqueue(connection, "measure", [signal], life=life, lock_timeout_seconds=2.0)
    with engine.begin() as connection, watch.timed("claim by id"):
        ids = [delivery.delivery_id for delivery in stored.deliveries]
        [claim] = claim_by_id(connection, ids, worker_id=worker_id).claims
    accepted = Record(
        delivery_id=claim.delivery_id,
        claim_id=claim.claim_id,
        attempt=claim.attempt,
        worker_id=worker_id,
        started_at=claim.claimed_at,
        answer=Answer(Phase.BODY, 0.01, status_code=200),
        verdict=Verdict(Outcome.DELIVERED, "http_200", counted=True, maybe_received=False),
        decision=Decision(Status.DELIVERED),
        claim=claim,
    )
    with engine.begin() as connection, watch.timed("record"):
        record(connection, [accepted])


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="signalpost-measure-") as folder:
        url = stack.postgres_in(Path(folder)).url()
        migrate(url)
        ways = {
            "planned anew": (sync_engine(url, pool_size=1), Watch()),
            "prepared": (sync_engine(url, busy=True, pool_size=1), Watch()),
        }
        with ways["prepared"][0].begin() as connection:
            rows.add_endpoint(connection)
        for _ in range(ROUNDS):
            for engine, watch in ways.values():
                deliver_one(engine, watch)
        for what in ("enqueue", "claim by id", "record"):
            told = ", ".join(
                f"{way} {watch.median(what):.2f} ms" for way, (_, watch) in ways.items()
            )
            print(f"{what:12} {told}")
        for engine, _ in ways.values():
            engine.dispose()
        stack.stop_all()


if __name__ == "__main__":
    main()
