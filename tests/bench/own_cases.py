"""What is measured of signalpost alone: bursts, latency beside slow requests, isolation, growth."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from uuid import uuid4

from sqlalchemy import Connection, text

from signalpost.database import sync_engine
from signalpost.repository import claims
from tests.bench import feeding
from tests.bench.cases import PATIENCE_SECONDS, Sample, drained, paced
from tests.bench.ground import Visit

__all__ = ["backlog", "burst", "held", "isolation", "many", "scale"]

PRODUCERS = 3
OPEN, CALM_SECONDS = 400, 1.0
HEALTHY, SLOW_ONES = 18, 20
CLAIM, CLAIMS, DUE = 50, 30, 1000
AT_ONCE = 100_000

ADD = """
WITH made AS (
    INSERT INTO signalpost.signals
        (id, producer_id, idempotency_key, body, instrument, side, action)
    SELECT gen_random_uuid(), 'bench', gen_random_uuid()::text, '{}', 'AAPL', 'buy', 'open'
    FROM generate_series(1, :many) n
    RETURNING id
)
INSERT INTO signalpost.deliveries (signal_id, endpoint_id, status, next_attempt_at, finished_at)
SELECT made.id, (SELECT max(id) FROM signalpost.endpoints), %s FROM made
"""
FINISHED = text(ADD % "'delivered', NULL, clock_timestamp()")
WAITING = text(ADD % "'pending', clock_timestamp(), NULL")


def burst(visit: Visit, seconds: float) -> Sample:
    """Several producers enqueue single signals as fast as they can; until all are recorded."""
    url = visit.receiver.url("fast")
    visit.clear([url])
    each = int(400 * seconds)
    feeders = visit.feeders(PRODUCERS, [url])
    for feeder in feeders:
        feeder.ask({"do": "pace", "url": url, "count": 3, "per_second": 50})
    before = visit.cpu()
    begun = time.perf_counter()
    for feeder in feeders:
        feeder.begin({"do": "pace", "url": url, "count": each, "per_second": 1e6})
    for feeder in feeders:
        feeder.answer()
    visit.wait_recorded(0, PATIENCE_SECONDS)
    took = time.perf_counter() - begun
    count = each * PRODUCERS
    workers, postgres, redis = (
        (after - first) / count * 1000 for after, first in zip(visit.cpu(), before, strict=True)
    )
    return Sample(count / took, workers, postgres, redis, mib=visit.mebibytes())


def many(visit: Visit, count: int) -> Sample:
    """`enqueue_many` of so many signals, the workers standing still."""
    url = visit.receiver.url("fast")
    visit.clear([url])
    visit.halt()
    try:
        took = visit.feed("many", url=url, count=count)
    finally:
        visit.go()
    # They need not be delivered: the next case clears them away.
    return Sample(count / took)


def held(visit: Visit, seconds: float) -> Sample:
    """Latency at 50 a second while another endpoint keeps requests open: 400, or as many as may."""
    url, long = visit.receiver.url("fast"), visit.receiver.url("long")
    visit.clear([url, long])
    visit.feed("fill", urls=[long] * OPEN)
    end, last, since = time.monotonic() + 10, -1, time.monotonic()
    while time.monotonic() < end and last < OPEN and time.monotonic() - since < CALM_SECONDS:
        found = visit.receiver.count()
        if found != last:
            last, since = found, time.monotonic()
        time.sleep(0.05)
    return paced(50, cleared=True)(visit, seconds)


def isolation(visit: Visit, seconds: float) -> tuple[Sample, Sample]:
    """Healthy endpoints without, then beside, a dead one and one that answers after 25 s."""
    each = max(int(visit.system.expected["fast"] * seconds) // HEALTHY, 2)
    healthy = [visit.receiver.url(f"fast/{number}") for number in range(HEALTHY)]
    ill = [f"http://127.0.0.1:{visit.ground.dead_port}/dead", visit.receiver.url("long")]
    without = drained(visit, healthy * each, HEALTHY * each)
    # The receiver counts those that wait 25 s as well, so they are few, and all of them go.
    urls = ill * SLOW_ONES + healthy * each
    beside = drained(visit, urls, HEALTHY * each + SLOW_ONES, recorded=False)
    return without, beside


def scale(visit: Visit, sizes: Sequence[int], seconds: float) -> Iterator[tuple[int, Sample]]:
    """For each number of finished rows, in order: a bulk run and the median time of a claim."""
    url = visit.receiver.url("fast")
    visit.clear([url])
    there = 0
    for size in sizes:
        _add(visit, FINISHED, size - there)
        there = size
        count = int(visit.system.expected["fast"] * seconds)
        sample = drained(visit, [url] * count, count, cleared=True)
        there += count
        sample.p50_ms = _claim_ms(visit)
        yield size, sample


def backlog(visit: Visit, waiting: int, seconds: float) -> Sample:
    """What a drain does with so many rows waiting: its rate and the memory of one worker."""
    url = visit.receiver.url("fast")
    visit.clear([url])
    visit.halt()
    try:
        _add(visit, WAITING, waiting)
        visit.feed("fill", urls=[url])
    finally:
        visit.go()
    visit.wait_received(1, PATIENCE_SECONDS)
    first, begun = visit.receiver.count(), time.perf_counter()
    time.sleep(seconds)
    rate = (visit.receiver.count() - first) / (time.perf_counter() - begun)
    return Sample(rate, mib=visit.mebibytes() / visit.system.copies)


def _add(visit: Visit, statement: object, count: int) -> None:
    def add(connection: Connection) -> None:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(statement, {"many": some})  # type: ignore[call-overload]  # a text()

    for begin in range(0, count, AT_ONCE):
        some = min(AT_ONCE, count - begin)
        _on_database(visit, add)
    _on_database(
        visit, lambda connection: connection.execute(text("ANALYZE signalpost.deliveries"))
    )


def _claim_ms(visit: Visit) -> float:
    """Median milliseconds of a claim of 50 of 1000 due rows; all of it is rolled back."""
    times: list[float] = []

    def measure(connection: Connection) -> None:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(WAITING, {"many": DUE})
        for _ in range(CLAIMS):
            with connection.begin_nested() as point:
                began = time.perf_counter()
                claims.claim_due(connection, worker_id=uuid4(), limit=CLAIM)
                times.append((time.perf_counter() - began) * 1000)
                point.rollback()
        connection.rollback()

    _on_database(visit, measure)
    return median(times)


def _on_database(visit: Visit, act: Callable[[Connection], object]) -> None:
    engine = sync_engine(visit.environment[feeding.DATABASE], busy=True)
    try:
        with engine.connect() as connection:
            act(connection)
            connection.commit()
    finally:
        engine.dispose()
