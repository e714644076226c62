"""Timers of retries that no message brings back."""

from __future__ import annotations

from uuid import UUID, uuid4

from signalpost.reports import Report
from signalpost.timers import Timers
from tests.waiting import until


async def test_a_timer_that_was_dropped_does_not_ring_and_one_set_anew_does() -> None:
    """What was taken before its time came has its next timer from its next report."""
    rung: list[UUID] = []
    timers = Timers(rung.append)
    taken, left = uuid4(), uuid4()
    for delivery_id in (taken, left):
        timers.set(Report(delivery_id, "retry", retry_in_seconds=0.02))
    timers.drop(taken)
    timers.drop(uuid4())
    await until(lambda: left in rung)
    assert rung == [left], "the other one was set first, for the same time"
    timers.set(Report(taken, "retry", retry_in_seconds=0.0))
    await until(lambda: taken in rung)
