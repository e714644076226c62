"""The cases: what each system is given, and what is measured of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.bench.ground import Visit

__all__ = ["CASES", "Sample"]

PATIENCE_SECONDS = 60.0
ENDPOINTS = 100
"""Of `mixed`: one dead, ten slow, the others fast."""


@dataclass
class Sample:
    """One round of one case; what a case does not measure stays None. Times in milliseconds."""

    per_s: float | None = None
    cpu_s_per_1000: float | None = None
    postgres_s_per_1000: float | None = None
    redis_s_per_1000: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    mib: float | None = None
    times_ms: list[float] = field(default_factory=list)
    enqueue_ms: list[float] = field(default_factory=list)


def warm(visit: Visit, count: int = 100) -> None:
    """Open what is opened once; nothing is measured."""
    url = visit.receiver.url("fast")
    visit.clear([url])
    visit.feed("fill", urls=[url] * count)
    visit.wait_received(count, PATIENCE_SECONDS)
    visit.wait_recorded(0, PATIENCE_SECONDS)


def drained(
    visit: Visit,
    urls: list[str],
    reachable: int,
    *,
    cleared: bool = False,
    recorded: bool = True,
) -> Sample:
    """Fill while the workers stand still, let them go, wait until all is recorded.

    `cleared`: the receivers are set up already, and rows of before may stay. Not `recorded`: it
    ends with the arrival of all that can arrive at once, since something stays under way.
    """
    if cleared:
        visit.receiver.clear()
    else:
        visit.clear(urls)
    visit.halt()
    try:
        visit.feed("fill", urls=urls)
        before = visit.cpu()
    finally:
        begun = time.perf_counter()
        visit.go()
    visit.wait_received(reachable, PATIENCE_SECONDS)
    if recorded:
        visit.wait_recorded(len(urls) - reachable, PATIENCE_SECONDS)
    took = time.perf_counter() - begun
    mib = visit.mebibytes()
    workers, postgres, redis = (
        (after - first) / reachable * 1000 for after, first in zip(visit.cpu(), before, strict=True)
    )
    return Sample(reachable / took, workers, postgres, redis, mib=mib)


def fast(visit: Visit, seconds: float) -> Sample:
    """The receiver answers at once."""
    count = int(visit.system.expected["fast"] * seconds)
    return drained(visit, [visit.receiver.url("fast")] * count, count)


def slow(visit: Visit, seconds: float) -> Sample:
    """The receiver answers after 200 ms."""
    count = max(int(visit.system.expected["slow"] * seconds), 20)
    return drained(visit, [visit.receiver.url("slow")] * count, count)


def mixed(visit: Visit, seconds: float) -> Sample:
    """A hundred endpoints: one refuses connections, ten answer after 200 ms, the rest at once."""
    per_s = min(visit.system.expected["fast"], 5 * visit.system.expected["slow"])
    each = max(int(per_s * seconds) // ENDPOINTS, 2)
    dead = f"http://127.0.0.1:{visit.ground.dead_port}/dead"
    urls = [dead]
    urls += [visit.receiver.url(f"slow/{number}") for number in range(10)]
    urls += [visit.receiver.url(f"fast/{number}") for number in range(ENDPOINTS - 11)]
    return drained(visit, urls * each, each * (ENDPOINTS - 1))


def paced(per_second: float, *, cleared: bool = False) -> Callable[[Visit, float], Sample]:
    """From before each enqueue to the arrival of its request, at an even pace.

    `cleared`: the receivers are set up already, and what they have to do may go on meanwhile.
    """

    def measure(visit: Visit, seconds: float) -> Sample:
        url = visit.receiver.url("fast")
        count = int(per_second * seconds)
        if not cleared:
            visit.clear([url])
        visit.feed("pace", url=url, count=5, per_second=50)
        before = visit.cpu()
        found = visit.feed("pace", url=url, count=count, per_second=per_second)
        visit.wait_seen(list(found["sent"]), PATIENCE_SECONDS)
        workers, postgres, redis = (
            (after - first) / count * 1000 for after, first in zip(visit.cpu(), before, strict=True)
        )
        if not cleared:
            visit.wait_recorded(0, PATIENCE_SECONDS)
        seen = visit.receiver.seen()
        times = sorted((seen[key] - at) * 1000 for key, at in found["sent"].items())
        return Sample(
            None,
            workers,
            postgres,
            redis,
            part(times, 0.5),
            part(times, 0.99),
            visit.mebibytes(),
            times,
            sorted(seconds * 1000 for seconds in found["took"]),
        )

    return measure


def part(ordered: list[float], share: float) -> float:
    """The value that so large a part of all is not above."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


CASES: dict[str, Callable[[Visit, float], Sample]] = {
    "fast": fast,
    "slow": slow,
    "mixed": mixed,
    "latency-50": paced(50),
    "latency-400": paced(400),
}
