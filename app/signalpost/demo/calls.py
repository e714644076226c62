"""The strategy's own account of what it enqueued: the lines that it prints."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from uuid import UUID

from signalpost.demo.crosscheck import Called

__all__ = ["read_calls"]

_LINE = re.compile(
    r"(?P<at>\S+Z) \S+ \S+ signal=(?P<signal>\S+) deliveries=(?P<deliveries>\d+) "
    r"duplicate=(?P<duplicate>yes|no)"
)


def read_calls(output: Path) -> list[Called]:
    """Read the calls of ``enqueue`` from the example strategy's output; skip its other lines."""
    lines = output.read_text(encoding="utf-8").splitlines()
    return [
        Called(
            at=datetime.fromisoformat(found["at"]),
            signal_id=UUID(found["signal"]),
            deliveries=int(found["deliveries"]),
            duplicate=found["duplicate"] == "yes",
        )
        for found in map(_LINE.fullmatch, lines)
        if found is not None
    ]
