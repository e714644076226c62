"""JSON lines as `signalpost send` takes them: read as they come, checked one by one, in chunks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal

from signalpost.core.signals import Signal, check_body_size
from signalpost.errors import SignalError

__all__ = ["CHUNK", "BadLine", "GoodLine", "checked", "chunks"]

CHUNK = 500
"""Signals in one transaction, and in one round trip."""

LINE_BYTES = 32 * 1024 * 1024
"""Of one line at most: three times the largest body that a setting allows."""

_PATIENCE_SECONDS = 0.02

Numbered = tuple[int, bytes | None]


@dataclass(frozen=True, slots=True)
class GoodLine:
    """A line that is a signal."""

    number: int
    signal: Signal


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is none, and why."""

    number: int
    why: str


def chunks(source: BinaryIO) -> Iterator[list[Numbered]]:
    """Numbered lines in groups of at most CHUNK; None stands for a line that is too long.

    Lines that come slowly are handed on as they come: a signal must not wait for its followers.
    Raises what reading raises.
    """
    waiting: queue.Queue[Numbered | Exception | None] = queue.Queue(4 * CHUNK)

    def read() -> None:
        try:
            for numbered in _numbered(source):
                waiting.put(numbered)
            waiting.put(None)
        except (OSError, ValueError) as error:
            waiting.put(error)

    threading.Thread(target=read, name="lines", daemon=True).start()
    while True:
        group, ended = _group(waiting)
        if group:
            yield group
        if ended is not None:
            if isinstance(ended, Exception):
                raise ended
            return


def _group(
    waiting: queue.Queue[Numbered | Exception | None],
) -> tuple[list[Numbered], Exception | Literal[True] | None]:
    """What has come by now, one line at least, and what ended it: an error, the end, or nothing."""
    group: list[Numbered] = []
    item = waiting.get()
    while isinstance(item, tuple):
        group.append(item)
        if len(group) == CHUNK:
            return group, None
        try:
            item = waiting.get(timeout=_PATIENCE_SECONDS)
        except queue.Empty:
            return group, None
    return group, item or True


def checked(
    group: Sequence[Numbered], *, size_limit: int, identify: Callable[[Signal], Signal]
) -> Iterator[GoodLine | BadLine]:
    """Each line as a signal with its id, or with the reason why it is none; empty ones left out."""
    for number, content in group:
        if content is None:
            yield BadLine(number, f"the line has more than {LINE_BYTES} bytes")
            continue
        if not content.strip():
            continue
        try:
            signal = identify(Signal.from_json(content))
            check_body_size(signal.body(), size_limit)
        except SignalError as error:
            # To the JSON reader each line is the first one.
            told = "; ".join(error.problems).replace(" at line 1, column", " at column")
            yield BadLine(number, told)
        else:
            yield GoodLine(number, signal)


def _numbered(source: BinaryIO) -> Iterator[Numbered]:
    number = 0
    while line := source.readline(LINE_BYTES):
        number += 1
        if line.endswith(b"\n") or len(line) < LINE_BYTES:
            yield number, line.rstrip(b"\r\n")
            continue
        while (rest := source.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield number, None
