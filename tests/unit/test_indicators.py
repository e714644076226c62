"""The example strategy's indicators against values worked out by hand."""

from __future__ import annotations

import importlib.util
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "examples" / "strategy"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where rules.py imports it from, as it does beside strategy.py
    spec.loader.exec_module(module)
    return module


indicators = _load("indicators")


def _bars(*high_low: tuple[int, int]) -> list[object]:
    return [
        indicators.Bar("TEST", f"2020-01-{day:02}", Decimal(high), Decimal(low), Decimal(low))
        for day, (high, low) in enumerate(high_low, start=1)
    ]


def test_rsi_of_the_first_period_uses_plain_means() -> None:
    """Over 10, 11, 10, 12 the mean gain is 1 and the mean loss 1/3, so the index of 3 is 75."""
    rsi = indicators.WilderRsi(period=3)

    assert [rsi.update(Decimal(close)) for close in (10, 11, 10)] == [None, None, None]
    assert round(rsi.update(Decimal(12)), 10) == 75


def test_rsi_is_smoothed_after_the_first_period() -> None:
    """A next close of 11 makes the means 2/3 and 5/9, so the index is 100 - 100/2.2 = 54.5454..."""
    rsi = indicators.WilderRsi(period=3)
    for close in (10, 11, 10, 12):
        rsi.update(Decimal(close))

    assert round(rsi.update(Decimal(11)), 6) == Decimal("54.545455")


@pytest.mark.parametrize(
    ("closes", "expected"),
    [((1, 2, 3, 4), 100), ((4, 3, 2, 1), 0), ((2, 2, 2, 2), 50)],
    ids=["only gains", "only losses", "no change"],
)
def test_rsi_has_a_value_where_one_mean_is_zero(closes: tuple[int, ...], expected: int) -> None:
    """Only gains give 100, only losses 0, and no change at all 50, never a division by zero."""
    rsi = indicators.WilderRsi(period=3)

    assert [rsi.update(Decimal(close)) for close in closes][-1] == expected


@pytest.mark.parametrize(
    ("share", "rising", "falling"), [("0.382", "161.8", "138.2"), ("0.786", "121.4", "178.6")]
)
def test_retracements_are_measured_from_the_end_of_the_swing(
    share: str, rising: str, falling: str
) -> None:
    """Of 100 to 200, 38.2 % given back is 161.8 after a rise and 138.2 after a fall."""
    up = indicators.Swing(Decimal(100), Decimal(200), rising=True)
    down = indicators.Swing(Decimal(100), Decimal(200), rising=False)

    assert up.retraced(Decimal(share)) == Decimal(rising)
    assert down.retraced(Decimal(share)) == Decimal(falling)


def test_a_swing_rises_where_its_low_came_first() -> None:
    """The window's extremes and their order make the swing."""
    assert indicators.swing(_bars((12, 9), (15, 11), (14, 10))) == indicators.Swing(
        Decimal(9), Decimal(15), rising=True
    )
    assert indicators.swing(_bars((15, 11), (12, 9), (14, 10))) == indicators.Swing(
        Decimal(9), Decimal(15), rising=False
    )


def test_of_equal_extremes_the_later_one_counts() -> None:
    """A low that is touched again after the high turns a rising swing into a falling one."""
    assert indicators.swing(_bars((12, 9), (15, 11))).rising
    assert not indicators.swing(_bars((12, 9), (15, 11), (13, 9))).rising


def test_no_bars_have_no_swing() -> None:
    """An empty window is an error that says so."""
    with pytest.raises(ValueError, match="at least one bar"):
        indicators.swing([])
