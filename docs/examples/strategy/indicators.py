"""Two textbook indicators over daily bars, in exact decimals.

The relative strength index is J. Welles Wilder's (New Concepts in Technical Trading Systems, 1978):
the first averages are plain means of the first changes, later ones are smoothed by 1/period.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

RETRACEMENTS = (Decimal("0.382"), Decimal("0.5"), Decimal("0.618"))
"""The retracements that are traded, as shares of the swing."""

HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of one instrument; prices in its currency."""

    ticker: str
    date: str
    high: Decimal
    low: Decimal
    close: Decimal


class WilderRsi:
    """The relative strength index of a stream of closes."""

    def __init__(self, period: int = 14) -> None:
        self._period = period
        self._last: Decimal | None = None
        self._changes = 0
        self._gain = Decimal(0)
        self._loss = Decimal(0)

    def update(self, close: Decimal) -> Decimal | None:
        """Take the next close; give the index (0 to 100), or None before ``period`` changes."""
        last, self._last = self._last, close
        if last is None:
            return None
        gain, loss = max(close - last, Decimal(0)), max(last - close, Decimal(0))
        self._changes += 1
        # Up to the period this is the running plain mean, from then on Wilder's smoothing.
        weight = min(self._changes, self._period)
        self._gain += (gain - self._gain) / weight
        self._loss += (loss - self._loss) / weight
        if self._changes < self._period:
            return None
        if self._loss == 0:
            return HUNDRED if self._gain else HUNDRED / 2
        return HUNDRED - HUNDRED / (1 + self._gain / self._loss)


@dataclass(frozen=True, slots=True)
class Swing:
    """The move between the lowest low and the highest high of a window."""

    low: Decimal
    high: Decimal
    rising: bool
    """The low came first."""

    def retraced(self, share: Decimal) -> Decimal:
        """The price at which this share (0 to 1) of the swing has been given back."""
        span = self.high - self.low
        return self.high - span * share if self.rising else self.low + span * share


def swing(bars: Sequence[Bar] | deque[Bar]) -> Swing:
    """The swing of a window of bars; of equal extremes the later one counts.

    Raises:
        ValueError: the window is empty.
    """
    if not bars:
        raise ValueError("a swing needs at least one bar")
    low_at, high_at = 0, 0
    for at, bar in enumerate(bars):
        low_at = at if bar.low <= bars[low_at].low else low_at
        high_at = at if bar.high >= bars[high_at].high else high_at
    return Swing(low=bars[low_at].low, high=bars[high_at].high, rising=low_at < high_at)
