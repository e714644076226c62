"""What an engine says of its own health, asked from another thread as `/healthz` does."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

from signalpost.clock import Clocks, steady_seconds, wall_clock
from signalpost.engine import Engine as DeliveryEngine
from signalpost.engine_thread import EngineThread
from tests.engines import engine_rig
from tests.processes import wait_for


@contextmanager
def running(database_url: str, clocks: Clocks | None = None) -> Iterator[EngineThread]:
    @asynccontextmanager
    async def build() -> AsyncIterator[DeliveryEngine]:
        async with engine_rig(database_url, clocks=clocks, start=False) as rig:
            yield rig.engine

    thread = EngineThread(build)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


def test_an_engine_that_runs_is_well_and_one_that_ended_is_not(database_url: str) -> None:
    """Nothing is said while it renews, and that it does not run once it has ended."""
    with running(database_url) as thread:
        assert thread.trouble() is None
        assert thread.in_flight == 0
    assert thread.trouble() == "the engine does not run"


def test_a_loop_that_does_not_turn_is_noticed(database_url: str) -> None:
    """Something that blocks the engine's loop is told within seconds, and forgotten after it."""
    with running(database_url) as thread:
        assert thread._loop is not None
        thread._loop.call_soon_threadsafe(time.sleep, 3)
        assert thread.trouble() == "the engine's loop has not turned for 2 s"
        wait_for(lambda: thread.trouble() is None, 5)


def test_a_lease_that_lapsed_is_told(database_url: str) -> None:
    """Without a renewal for the lease's time the engine says that the database is away."""
    ahead = 0.0
    with running(database_url, Clocks(steady=lambda: steady_seconds() + ahead)) as thread:
        ahead = 9.0
        trouble = thread.trouble()
    assert trouble is not None
    assert re.match(
        r"the engine has not for \d+ s renewed its lease: the database is away", trouble
    )


def test_a_clock_that_is_off_is_told(database_url: str) -> None:
    """An engine whose machine's clock is wrong sends nothing, and says so."""
    off = Clocks(wall=lambda: wall_clock() + timedelta(seconds=5))
    with running(database_url, off) as thread:
        assert thread.trouble() == "this machine's clock is off: nothing is sent"
