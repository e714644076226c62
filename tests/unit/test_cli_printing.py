from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from signalpost.cli.printing import age, facts, print_json, printable, table, utc, when

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-3, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (12, "12 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (5400, "2 h"),
        (86_400, "24 h"),
        (200_000, "2 d"),
    ],
)
def test_an_age_is_told_in_the_unit_that_fits(seconds: float, told: str) -> None:
    """Seconds, minutes, hours or days, whichever a person reads at once."""
    assert age(seconds) == told


def test_a_moment_is_told_in_utc_with_its_distance() -> None:
    """Times are UTC whatever zone they come in, and say how far off they are."""
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    assert utc(elsewhere) == "2026-01-31 09:30:00Z"
    assert when(elsewhere, NOW + timedelta(minutes=3)) == "2026-01-31 09:30:00Z (3 min ago)"
    assert when(NOW, NOW - timedelta(seconds=12)) == "2026-01-31 09:30:00Z (in 12 s)"
    assert utc(None) == when(None, NOW) == "-"


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"plain \xc3\xa9", "plain é"),
        (b"\xff\x00", "\\xff\\x00"),
        ("a\nb\r\x1b[31m", "a\\nb\\r\\x1b[31m"),
        ("right\u202eto left", "right\\u202eto left"),
    ],
)
def test_what_is_printed_cannot_move_the_cursor(content: bytes | str, shown: str) -> None:
    """Control characters, invisible marks and broken bytes are shown as what they are."""
    assert printable(content) == shown


def test_a_piped_table_is_aligned_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal a table has columns, no lines, no colours and no forged rows."""
    table(("name", "url"), [("desk", "https://a"), ("a\nb", None)], empty="nothing")
    table(("name",), [], empty="nothing")

    assert capsys.readouterr().out == "NAME  URL\ndesk  https://a\na\\nb  -\nnothing\n"


def test_facts_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """Names stand under each other, and so do values; what is missing is a dash."""
    facts((("a", 1), ("long", "")))

    assert capsys.readouterr().out == "a     1\nlong  -\n"


def test_json_has_a_form_for_everything_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Times are RFC 3339 in UTC, ids and decimals text, bytes text with what is broken escaped."""
    print_json({"at": NOW, "id": UUID(int=1), "price": Decimal("1.10"), "excerpt": b"ok\xff"})

    assert json.loads(capsys.readouterr().out) == {
        "at": "2026-01-31T09:30:00.000000Z",
        "id": "00000000-0000-0000-0000-000000000001",
        "price": "1.10",
        "excerpt": "ok\\xff",
    }
    with pytest.raises(TypeError):
        print_json(object())
