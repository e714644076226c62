"""Where a worker's time goes, by each way.

    python -m tests.measurements.profile [deliveries]

`drain`: an engine in this process, under Python's profiler, which makes small functions look larger
than they are: read the shares, not the times. Singles: a real worker, its processor time by
thread, which costs nothing to ask for. PostgreSQL and the receiver run beside, and are not counted.
"""

from __future__ import annotations

import asyncio
import cProfile
import logging
import pstats
import sys
from collections import Counter
from typing import Any

import psutil
from sqlalchemy import Engine, text

from signalpost.broker import Broker
from signalpost.logs import configure_logging
from signalpost_worker import collector
from tests.engines import engine_rig
from tests.measurements.deliveries import SINGLES, clear, fill, ground, singles

PARTS = {
    "signing, in three formats": ("signer.py", "signing.py", "httpsig.py", "structured.py"),
    "HTTP: request, write, answer": ("/transport/", "/aiohttp/", "/httpx/", "sender.py", "/yarl/"),
    "event loop": ("/asyncio/", "selectors.py"),
    "lines and reports": ("/logging/", "logs.py", "reports.py"),
    "claims and records": ("/sqlalchemy/", "/psycopg/", "/repository/", "outbox.py", "uuid.py"),
}
OTHER = "checks, decisions, places"
DUE = text("""
UPDATE signalpost.deliveries SET next_attempt_at = clock_timestamp() + interval '1 second'
WHERE status = 'pending'
""")


def part_of(path: str) -> str:
    """Which part of the work a file is."""
    return next((part for part, ends in PARTS.items() if any(end in path for end in ends)), OTHER)


def shares(profile: cProfile.Profile) -> Counter[str]:
    """Seconds by part; what is built in counts for whoever called it."""
    found: Counter[str] = Counter()
    stats: Any = pstats.Stats(profile)
    for (path, _, name), (_, _, own, _, callers) in stats.stats.items():
        if "epoll" in name:
            continue  # waiting
        if path != "~":
            found[part_of(path)] += own
            continue
        for (caller, _, _), (_, _, share, _) in callers.items():
            found[part_of(caller)] += share
    return found


async def drained(database_url: str, engine: Engine, url: str, many: int) -> cProfile.Profile:
    """Profile the delivery of so many by an engine of this process."""

    def make(count: int) -> None:
        fill(engine, url, count)
        with engine.begin() as connection:
            connection.execute(DUE)

    profile = cProfile.Profile()
    async with engine_rig(database_url, window_size=400) as rig:
        for count, watched in ((300, False), (many, True)):  # the first ones warm up
            await asyncio.to_thread(make, count)
            await asyncio.sleep(1.2)
            if watched:
                collector.settle()
                profile.enable()
            await rig.engine.drain()
    profile.disable()
    return profile


def by_thread(pid: int) -> Counter[str]:
    """Processor seconds of a worker: Celery's own loop, the engine's, and the rest."""
    threads = {one.id: one.user_time + one.system_time for one in psutil.Process(pid).threads()}
    return Counter({str(name): seconds for name, seconds in threads.items()})


def show(title: str, found: Counter[str]) -> None:
    print(title)
    for name, seconds in found.most_common():
        print(f"  {name:<32} {seconds / found.total():5.0%}")


def main(many: int) -> None:
    with ground() as here:
        engine, url = here.engine, here.url
        with (here.folder / "lines").open("w") as lines:
            configure_logging()
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler):
                    handler.setStream(lines)
            profile = asyncio.run(drained(here.database_url, engine, url, many))
        show(f"drain, {many} deliveries: parts of the engine's time", shares(profile))
        program, redis, broker = here.worker(), here.redis(), Broker(here.redis_url)
        clear(engine, redis)
        singles(engine, redis, broker, url)  # warm
        clear(engine, redis)
        before = by_thread(program.pid)
        singles(engine, redis, broker, url)
        clear(engine, redis)  # and so with all messages
        spent = by_thread(program.pid) - before
        busiest = next(name for name, _ in spent.most_common() if name != str(program.pid))
        told = Counter(
            {
                "Celery's loop: receive, hand over": spent[str(program.pid)],
                "the engine's loop": spent[busiest],
            }
        )
        told["Celery's task threads"] = spent.total() - told.total()
        each = spent.total() / SINGLES * 1000
        show(f"singles, {SINGLES} announced one by one: {each:.2f} ms each", told)


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:] or (10_000,)))
