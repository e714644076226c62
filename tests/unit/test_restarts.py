"""The waits before a dead process is started again."""

from __future__ import annotations

from signalpost.embedded.restarts import Restarts


def test_waits_double_to_half_a_minute() -> None:
    """A process that keeps dying is started again after 1, 2, 4 ... seconds, at most 30."""
    restarts = Restarts()

    waits = [restarts.delay(lived_seconds=0.1) for _ in range(8)]

    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_minute_of_life_forgives() -> None:
    """A process that lived for a minute begins anew at the shortest wait, no other does."""
    restarts = Restarts()
    for _ in range(5):
        restarts.delay(lived_seconds=0.1)

    assert restarts.delay(lived_seconds=59.9) == 30
    assert restarts.delay(lived_seconds=60.0) == 1
    assert restarts.delay(lived_seconds=0.1) == 2
