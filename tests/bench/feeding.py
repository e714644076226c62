"""A system's feeder: a process, in the system's own environment, that puts work into it.

    python -m tests.bench.feeding MODULE

The module's `feed(database_url, redis_url)` returns a Feed. Commands come as JSON lines on standard
input, each is answered by one on standard output. Only the standard library is needed here, since
a peer's environment has nothing else of ours.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

DATABASE, REDIS = "BENCH_DATABASE_URL", "BENCH_REDIS_URL"


class Feed(Protocol):
    """What each system can be asked for."""

    def clear(self, urls: Sequence[str]) -> None:
        """Leave no row behind; `urls` are the only receivers from now on."""

    def adopt(self, urls: Sequence[str]) -> None:
        """Know the receivers that another feeder's `clear` has set up."""

    def fill(self, urls: Sequence[str]) -> None:
        """Store one due delivery to each of `urls`, and tell the system of all of them."""

    def one(self, url: str) -> str:
        """Enqueue one, as a strategy would; return the id that goes to the receiver."""

    def many(self, url: str, count: int) -> float:
        """Enqueue so many in one call; return the seconds that it took."""

    def left(self) -> int:
        """How many rows are still waiting or under way; what failed once may count or not."""


def _pace(feed: Feed, url: str, count: int, per_second: float) -> dict[str, Any]:
    sent: dict[str, float] = {}
    took: list[float] = []
    begin = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begin + number / per_second - time.monotonic()))
        before, ticks = time.time(), time.perf_counter()
        sent[feed.one(url)] = before
        took.append(time.perf_counter() - ticks)
    return {"sent": sent, "took": took}


def _obey(feed: Feed, asked: dict[str, Any]) -> Any:
    match asked["do"]:
        case "clear":
            feed.clear(asked["urls"])
        case "adopt":
            feed.adopt(asked["urls"])
        case "fill":
            feed.fill(asked["urls"])
        case "pace":
            return _pace(feed, asked["url"], asked["count"], asked["per_second"])
        case "many":
            return feed.many(asked["url"], asked["count"])
        case "left":
            return feed.left()
    return None


def main(module: str) -> None:
    """Obey until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    # What libraries print must not mix with the answers.
    os.dup2(2, 1)
    feed: Feed = import_module(module).feed(os.environ[DATABASE], os.environ[REDIS])
    for line in sys.stdin:
        print(json.dumps(_obey(feed, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
