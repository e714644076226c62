from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import click
import pytest

from signalpost.cli.values import alert_id, chosen_id, id_range, instrument, life, moment, span


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("500ms", 0.5), ("2s", 2), ("1.5 m", 90), ("2H", 7200), ("1d", 86_400)],
)
def test_a_span_is_read_in_its_unit(text: str, seconds: float) -> None:
    """A number is seconds, and a unit behind it says otherwise."""
    assert span(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5 weeks", "1e3", "nan", "5s5s"])
def test_what_is_no_span_is_told_by_example(text: str) -> None:
    """Anything else is refused, with examples of what is wanted."""
    with pytest.raises(click.BadParameter, match="500ms"):
        span(text)


def test_a_moment_is_a_time_with_zone_or_a_span_back() -> None:
    """A time with its zone is taken as it is, a span is counted back from now."""
    assert moment("2026-01-31T09:30:00Z") == datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    assert moment("2026-01-31T10:30:00+01:00") == datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    before = datetime.now(UTC)
    assert before <= moment("10m") + timedelta(minutes=10) <= datetime.now(UTC)


@pytest.mark.parametrize("text", ["yesterday", "2026-01-31T09:30:00", "2026-01-31"])
def test_a_moment_without_zone_is_refused(text: str) -> None:
    """A time that means another instant on another machine is refused."""
    with pytest.raises(click.BadParameter, match="zone"):
        moment(text)


def test_the_beginning_of_an_id_is_a_range() -> None:
    """A prefix stands for all ids that begin so, with or without hyphens; a whole id for itself."""
    found = id_range("4F1C9A52-5d")
    assert found.low == UUID("4f1c9a52-5d00-0000-0000-000000000000")
    assert found.high == UUID("4f1c9a52-5dff-ffff-ffff-ffffffffffff")
    whole = id_range(str(found.low))
    assert whole.low == whole.high == found.low


@pytest.mark.parametrize("text", ["4f1", "xyz12345", "", "0" * 33, "-----"])
def test_what_begins_no_id_is_refused(text: str) -> None:
    """Fewer than 4 digits, more than 32, or other characters are no id."""
    with pytest.raises(click.BadParameter, match="first 4 digits"):
        id_range(text)


def test_an_id_to_act_upon_has_eight_digits() -> None:
    """With fewer digits a slip of the pen would hit another delivery."""
    assert chosen_id("4f1c9a52").written == "4f1c9a52"
    with pytest.raises(click.BadParameter, match="first 8 digits"):
        chosen_id("4f1c9a5")
    with pytest.raises(click.BadParameter, match="no id"):
        chosen_id("not an id")


def test_an_impossible_filter_is_refused() -> None:
    """A name that no instrument has, a time before all times and a span without end are slips."""
    assert instrument("BRK.B") == "BRK.B"
    assert life("5m") == 300
    slips = (
        (instrument, "aapl"),
        (instrument, "AA*"),
        (moment, "9999999d"),
        (span, "9" * 400),
    )
    for check, text in slips:
        with pytest.raises(click.BadParameter):
            check(text)
    for text in ("0", "0.5s", "40000d"):
        with pytest.raises(click.BadParameter, match="1s to 366d"):
            life(text)


def test_an_alert_is_named_by_its_number() -> None:
    """What is no number of an alert is told with the command that lists them."""
    assert alert_id(" 4711") == 4711
    for text in ("0", "-1", "4f1c9a52", "9" * 19):
        with pytest.raises(click.BadParameter, match="signalpost alerts list"):
            alert_id(text)
