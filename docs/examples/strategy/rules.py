"""The trading rule: buy the dip of a rising swing, sell the bounce of a falling one.

A bar that touches a Fibonacci retracement of the last swing and closes beyond it, while the
relative strength index has left its extreme, gives one signal: a limit order at the level, the stop
at the 78.6 % retracement, the target at the swing's end. Each level of a swing is traded once.
An example of a signal source, not advice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

from indicators import RETRACEMENTS, Bar, Swing, WilderRsi, swing

from signalpost import Signal

WINDOW_BARS = 40
COOLED_BELOW = Decimal(55)
"""A rising swing is bought only below this index; a falling one is sold only above its mirror."""
STOP_SHARE = Decimal("0.786")
PRICE_STEP = Decimal("0.0001")
CLOSING_BELL = time(16, 0, tzinfo=ZoneInfo("America/New_York"))


class Strategy:
    """The rule applied to one instrument; fed bar by bar."""

    def __init__(self) -> None:
        self._rsi = WilderRsi(14)
        self._window: deque[Bar] = deque(maxlen=WINDOW_BARS)
        self._traded: dict[Decimal, Swing] = {}

    def on_bar(self, bar: Bar) -> Iterator[Signal]:
        """Take the next bar; yield the signals that it gives (mostly none)."""
        rsi = self._rsi.update(bar.close)
        if rsi is not None and len(self._window) == WINDOW_BARS:
            move = swing(self._window)
            for share in RETRACEMENTS:
                if self._traded.get(share) != move and _touched(bar, move, share, rsi):
                    self._traded[share] = move
                    yield _signal(bar, move, share, rsi)
        self._window.append(bar)


def _touched(bar: Bar, move: Swing, share: Decimal, rsi: Decimal) -> bool:
    level = move.retraced(share)
    if move.rising:
        return bar.low <= level <= bar.close and rsi < COOLED_BELOW
    return bar.close <= level <= bar.high and rsi > 100 - COOLED_BELOW


def _signal(bar: Bar, move: Swing, share: Decimal, rsi: Decimal) -> Signal:
    entry = move.retraced(share).quantize(PRICE_STEP)
    return Signal(
        instrument=bar.ticker,
        side="buy" if move.rising else "sell",
        entry_price=entry,
        stop_loss=move.retraced(STOP_SHARE).quantize(PRICE_STEP),
        take_profit=(move.high if move.rising else move.low).quantize(PRICE_STEP),
        confidence=_confidence(share, rsi, rising=move.rising),
        reason=f"RSI {rsi:.2f} at the {share * 100:.1f} % retracement, level {entry}",
        timestamp=datetime.combine(datetime.fromisoformat(bar.date), CLOSING_BELL).astimezone(UTC),
        payload={"rsi": rsi.quantize(PRICE_STEP), "swing_high": move.high, "swing_low": move.low},
    )


def _confidence(share: Decimal, rsi: Decimal, *, rising: bool) -> Decimal:
    """The deeper the retracement and the further the index has cooled, the surer (0 to 1)."""
    cooled = (COOLED_BELOW - rsi if rising else rsi - (100 - COOLED_BELOW)) / 20
    return (share + min(max(cooled, Decimal(0)), Decimal(1)) * (1 - share)).quantize(
        Decimal("0.01")
    )
