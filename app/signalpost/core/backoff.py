"""How long a delivery waits before its next attempt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from signalpost.errors import ConfigurationError

# 2.0 ** 1024 is past what a float holds, and any base is past its cap long before.
_MAX_DOUBLINGS = 1023

SHORTEST_WAIT_SECONDS = 0.001
LONGEST_WAIT_SECONDS = 3600
"""What an endpoint may be given as a wait, the delay before its first retry among them."""


def usable_waits(given: Sequence[object]) -> tuple[float, ...]:
    """The waits, in seconds, of a stored list; none of them where any is no wait.

    A column of numbers may hold null, NaN and lists of numbers as well.
    """
    good = tuple(
        wait
        for wait in given
        if isinstance(wait, int | float)
        and not isinstance(wait, bool)
        and SHORTEST_WAIT_SECONDS <= wait <= LONGEST_WAIT_SECONDS
    )
    return good if len(good) == len(given) else ()


@dataclass(frozen=True, slots=True)
class Backoff:
    """A wait that doubles up to a cap, with jitter on top of the cap.

    base_seconds and cap_seconds are seconds, jitter a fraction of the wait. The jitter is added
    after the cap: before it, all capped retries would fall on the same instant and stampede
    together. Raises errors.ConfigurationError for values that make no schedule.

    Where `waits_seconds` holds anything, these are the waits instead, the last of them for whatever
    comes after.
    """

    base_seconds: float = 5
    cap_seconds: float = 120
    jitter: float = 0.25
    waits_seconds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("base_seconds", "cap_seconds", "jitter"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigurationError(f"backoff: {name} must be a number from 0 up")
        if not all(math.isfinite(wait) and wait >= 0 for wait in self.waits_seconds):
            raise ConfigurationError("backoff: waits_seconds must be numbers from 0 up")

    def delay(self, retry_number: int, chance: float) -> float:
        """Seconds to wait before a retry; retry_number counts from 0, chance is in [0, 1).

        ValueError outside these ranges.
        """
        if retry_number < 0 or not 0 <= chance < 1:
            raise ValueError("retry_number counts from 0 and chance lies in [0, 1)")
        return self._wait(retry_number) * (1 + self.jitter * chance)

    def total_seconds(self, retries: int) -> float:
        """The longest that so many waits can take together, in seconds, attempts not counted."""
        doublings = min(retries, _MAX_DOUBLINGS)
        waits = math.fsum(self._wait(number) for number in range(doublings))
        waits += (retries - doublings) * self._wait(_MAX_DOUBLINGS)
        return waits * (1 + self.jitter)

    def _wait(self, retry_number: int) -> float:
        if self.waits_seconds:
            return self.waits_seconds[min(retry_number, len(self.waits_seconds) - 1)]
        return min(self.base_seconds * 2.0 ** min(retry_number, _MAX_DOUBLINGS), self.cap_seconds)
