from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from signalpost.cli.trail import changed
from signalpost.repository.auditing import AuditLine

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"version": 1}, {"version": 2}, "version 1 -> 2"),
        (
            {"until": None},
            {"until": "2026-01-31T11:30:00.66441+02:00"},
            "until - -> 2026-01-31 09:30:00Z",
        ),
        (None, {"held": 3, "nothing": 0}, "held 3"),
        (
            {"url": "https://a/", "same": 1},
            {"url": "https://b/", "same": 1},
            "url https://a/ -> https://b/",
        ),
    ],
)
def test_a_change_is_told_by_what_differs(before: Any, after: Any, told: str) -> None:
    """Only what differs is told, and moments as everywhere: in UTC, to the second."""
    line = AuditLine(1, NOW, "user me", "endpoint changed", "endpoint desk", "", before, after)

    assert changed(line) == told
