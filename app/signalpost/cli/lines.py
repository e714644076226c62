"""JSON lines as `signalpost send` takes them: read as they come, checked one by one, in chunks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from signalpost.core.signals import Signal, check_body_size
from signalpost.errors import SignalError

__all__ = ["CHUNK", "BadLine", "GoodLine", "checked", "chunks"]

CHUNK = 500
"""Signals in one transaction, and in one round trip."""

LINE_BYTES = 32 * 1024 * 1024
"""Of one line at most: three times the largest body that a setting allows."""

_PATIENCE_SECONDS = 0.02


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


def chunks(source: BinaryIO) -> Iterator[list[tuple[int, bytes | None]]]:
    """Numbered lines in groups of at most CHUNK; None stands for a line that is too long.

    Lines that come slowly are handed on as they come: a signal must not wait for its followers.
    Raises what reading raises.
    """
    waiting: queue.Queue[tuple[int, bytes | None] | BaseException | None] = queue.Queue(4 * CHUNK)

    def read() -> None:
        try:
            for numbered in _numbered(source):
                waiting.put(numbered)
            waiting.put(None)
        except (OSError, ValueError) as error:
            waiting.put(error)

    threading.Thread(target=read, name="lines", daemon=True).start()
    going = True
    while going:
        item = waiting.get()
        group: list[tuple[int, bytes | None]] = []
        while True:
            if isinstance(item, BaseException):
                raise item
            if item is None:
                going = False
                break
            group.append(item)
            if len(group) == CHUNK:
                break
            try:
                item = waiting.get(timeout=_PATIENCE_SECONDS)
            except queue.Empty:
                break
        if group:
            yield group


def checked(
    group: list[tuple[int, bytes | None]], *, size_limit: int, identify: Callable[[Signal], Signal]
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
            yield BadLine(number, "; ".join(error.problems))
        else:
            yield GoodLine(number, signal)


def _numbered(source: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    number = 0
    while line := source.readline(LINE_BYTES):
        number += 1
        if line.endswith(b"\n") or len(line) < LINE_BYTES:
            yield number, line.rstrip(b"\r\n")
            continue
        while (rest := source.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield number, None
