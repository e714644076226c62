from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.core.backoff import Backoff, usable_waits
from signalpost.errors import ConfigurationError

CHANCES = st.floats(0, 1, exclude_max=True)
BACKOFFS = st.builds(
    Backoff,
    base_seconds=st.floats(0.001, 1e6),
    cap_seconds=st.floats(0, 1e6),
    jitter=st.floats(0, 2),
)
RETRIES = st.integers(0, 30) | st.integers(0, 10**30)


def test_the_default_schedule_is_the_documented_one() -> None:
    """Without jitter the retries wait 5, 10, 20, 40, 80 and from then on 120 seconds."""
    waits = [Backoff().delay(number, 0) for number in range(7)]
    assert waits == [5, 10, 20, 40, 80, 120, 120]
    assert Backoff(jitter=0).total_seconds(5) == 155
    assert Backoff().total_seconds(5) == 155 * 1.25


@given(BACKOFFS, RETRIES, CHANCES)
def test_a_delay_lies_between_its_wait_and_its_jitter(
    backoff: Backoff, number: int, chance: float
) -> None:
    """Chance only ever lengthens a wait, by no more than the jitter, however far it is capped."""
    wait = backoff.delay(number, 0)
    assert wait <= backoff.cap_seconds
    assert wait <= backoff.delay(number, chance) <= wait * (1 + backoff.jitter)


@given(BACKOFFS, RETRIES)
def test_waits_double_until_the_cap_and_never_shrink(backoff: Backoff, number: int) -> None:
    """Each wait is twice the one before, or the cap."""
    wait, after = backoff.delay(number, 0), backoff.delay(number + 1, 0)
    assert after == min(wait * 2, backoff.cap_seconds) or after == wait == backoff.cap_seconds


@given(RETRIES, st.lists(CHANCES, min_size=2, unique=True))
def test_jitter_survives_the_cap(number: int, chances: list[float]) -> None:
    """Retries that are long since capped still fall on different instants."""
    low, high = min(chances), max(chances)
    backoff = Backoff()
    capped = number + 5
    assert backoff.delay(capped, low) == pytest.approx(120 * (1 + 0.25 * low))
    assert backoff.delay(capped, high) - backoff.delay(capped, low) == pytest.approx(
        120 * 0.25 * (high - low)
    )


@given(BACKOFFS, st.integers(0, 60))
def test_the_total_is_the_sum_of_the_longest_waits(backoff: Backoff, retries: int) -> None:
    """No run of chances makes a schedule last longer than its total, and it may last as long."""
    just_below_one = math.nextafter(1, 0)
    longest = sum(backoff.delay(number, just_below_one) for number in range(retries))
    assert backoff.total_seconds(retries) == pytest.approx(longest)


@pytest.mark.parametrize(
    "backoff", [Backoff(), Backoff(base_seconds=0), Backoff(1e308, 1e308), Backoff(5e-324, 1)]
)
def test_no_retry_number_overflows(backoff: Backoff) -> None:
    """A delivery retried for years has a finite wait and a finite sum of them."""
    for number in (0, 1022, 1023, 1024, 10**9, 10**40):
        assert 0 <= backoff.delay(number, 0.999) < math.inf
    assert Backoff().total_seconds(10**9) == pytest.approx(10**9 * 150, rel=1e-6)


def test_no_retries_take_no_time() -> None:
    """A schedule without retries has a total of zero."""
    assert Backoff().total_seconds(0) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"base_seconds": -1},
        {"base_seconds": math.nan},
        {"cap_seconds": math.inf},
        {"cap_seconds": -0.1},
        {"jitter": -0.25},
        {"jitter": math.nan},
        {"waits_seconds": (1.0, -1.0)},
    ],
)
def test_a_backoff_that_is_no_schedule_is_refused(values: dict[str, Any]) -> None:
    """Negative and infinite values are named by their field."""
    with pytest.raises(ConfigurationError, match=f"backoff: {next(iter(values))} must be"):
        Backoff(**values)


@pytest.mark.parametrize(
    ("number", "chance"), [(-1, 0.5), (0, 1.0), (0, -0.1), (0, math.nan), (0, 7)]
)
def test_what_is_no_retry_and_no_chance_is_refused(number: int, chance: float) -> None:
    """Retries count from 0 and chance lies below 1, so a caller's slip is found at once."""
    with pytest.raises(ValueError, match="retry_number counts from 0"):
        Backoff().delay(number, chance)


def test_a_list_of_waits_is_kept_as_it_is_and_its_last_one_goes_on() -> None:
    """Each wait is its own, with the jitter on top; a retry past the list waits like the last."""
    backoff = Backoff(base_seconds=60, cap_seconds=1, waits_seconds=(3, 0.5, 7))

    assert [backoff.delay(number, 0.0) for number in range(5)] == [3, 0.5, 7, 7, 7]
    assert backoff.delay(1, 0.5) == 0.5 * 1.125
    assert backoff.total_seconds(3) == 10.5 * 1.25


@pytest.mark.parametrize(
    "odd",
    [
        *(None, True, "1", [1.0, 2.0], math.nan, math.inf, 1e300, 0.0, -1.0),
        *(math.nextafter(0.001, 0), math.nextafter(3600, math.inf)),
    ],
)
def test_stored_waits_are_of_use_together_or_not_at_all(odd: object) -> None:
    """One value that no command would store, even a list in the list, and none of them counts."""
    assert usable_waits([0.001, 5, 3600]) == (0.001, 5, 3600)
    assert usable_waits([5.0, odd]) == ()
