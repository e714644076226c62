from __future__ import annotations

import io
import json
import os
from typing import Any, BinaryIO, cast

import pytest

from signalpost.cli.lines import CHUNK, LINE_BYTES, BadLine, GoodLine, checked, chunks

SIGNAL: dict[str, Any] = {
    "instrument": "AAPL",
    "side": "buy",
    "entry_price": 101.10,
    "stop_loss": 99,
    "take_profit": 110,
    "confidence": 0.5,
    "reason": "crossed",
    "timestamp": "2026-01-31T09:30:00Z",
}


def checked_lines(*lines: bytes, size_limit: int = 1000) -> list[GoodLine | BadLine]:
    group = list(enumerate(lines, start=1))
    return list(
        checked(group, size_limit=size_limit, identify=lambda signal: signal.identified("tests"))
    )


def test_lines_come_in_numbered_chunks() -> None:
    """All lines come, in order, numbered from 1, at most CHUNK together; the last needs no end."""
    source = io.BytesIO(b"\n".join(str(n).encode() for n in range(2 * CHUNK + 1)))

    groups = list(chunks(source))

    assert [item for group in groups for item in group] == [
        (n + 1, str(n).encode()) for n in range(2 * CHUNK + 1)
    ]
    assert max(len(group) for group in groups) <= CHUNK


def test_a_slow_line_does_not_wait_for_its_followers() -> None:
    """A line of a pipe that stays open is handed on as it comes."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as pipe:
        groups = chunks(source)
        for text in (b"first\r\n", b"second\n"):
            pipe.write(text)
            assert [line for _, line in next(groups)] == [text.strip()]
        pipe.close()
        assert list(groups) == []


def test_a_line_without_end_is_not_read_into_memory() -> None:
    """A line that is too long is told as such, and the next one is read."""

    class Endless(io.RawIOBase):
        left = 3 * LINE_BYTES

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            size = min(len(buffer), self.left)
            buffer[:size] = b"x" * size
            self.left -= size
            return size

    found = list(chunks(cast("BinaryIO", io.BufferedReader(Endless()))))

    assert found == [[(1, None)]]
    assert list(checked(found[0], size_limit=1, identify=lambda signal: signal)) == [
        BadLine(1, f"the line has more than {LINE_BYTES} bytes")
    ]


def test_an_error_of_reading_is_raised() -> None:
    """What reading raises reaches the caller after the lines before it."""

    class Broken(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            line = super().readline(size)
            if not line:
                raise OSError(5, "Input/output error")
            return line

    groups = chunks(Broken(b"one\n"))

    with pytest.raises(OSError, match="Input/output"):
        assert [next(groups), next(groups)]


def test_good_lines_become_signals_with_ids() -> None:
    """A good line is a signal that has its id and keeps its digits; empty lines are nothing."""
    text = json.dumps(SIGNAL).replace("101.1", "101.10").encode()

    lines = checked_lines(text, b"   ", b"")

    assert [line.number for line in lines] == [1]
    assert isinstance(lines[0], GoodLine)
    assert lines[0].signal.id is not None
    assert b'"entry_price":101.10,' in lines[0].signal.body()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "JSON: not JSON at column 2"),
        (b"\xff", "JSON: "),
        (b"[]", "signal: must be an object"),
        (json.dumps({**SIGNAL, "side": "hold"}).encode(), "side: must be buy or sell"),
        (json.dumps({**SIGNAL, "payload": {"x": "y" * 2000}}).encode(), "the body has 2"),
    ],
)
def test_a_bad_line_says_why(line: bytes, why: str) -> None:
    """A line that is no signal is told with its number and the rule, never with its content."""
    [good, bad] = checked_lines(json.dumps(SIGNAL).encode(), line)

    assert isinstance(good, GoodLine)
    assert isinstance(bad, BadLine)
    assert bad.number == 2
    assert bad.why.startswith(why)
