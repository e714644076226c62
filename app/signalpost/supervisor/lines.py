"""The lines of many processes on one terminal, each with the name of its process before it."""

from __future__ import annotations

import os
import queue
import re
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from signalpost.embedded.launching import open_log

__all__ = ["PrefixedLines"]

FLUSH_SECONDS = 2.0
# Six colours that are readable on dark and on light backgrounds; red is left for trouble.
COLOURS = (36, 32, 33, 35, 34, 96)
RESET = "\x1b[0m"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Other escape sequences and control characters could rewrite what is on the screen.
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")


class PrefixedLines:
    """Writes `name | text` lines to `stream`, each whole, from any thread, without waiting for it.

    Names are padded to `width` characters. Coloured only where `stream` is a terminal and
    `environ` has no NO_COLOR (no-color.org). `log_file` gets a copy without colours, in full; the
    stream, when it is held up (Ctrl-S, a pager), loses lines past `waiting_lines` and says how
    many, since a process that waits for a terminal would deliver nothing. A terminal that has
    gone away is no error.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        environ: Mapping[str, str],
        width: int = 10,
        log_file: Path | None = None,
        waiting_lines: int = 10_000,
    ) -> None:
        self._stream = stream
        self._width = width
        self._coloured = stream.isatty() and not environ.get("NO_COLOR")
        self._colours: dict[str, int] = {}
        self._lost = 0
        self._waiting: queue.Queue[str | None] = queue.Queue(waiting_lines)
        self._one_at_a_time = threading.Lock()
        self._closing = ExitStack()
        self._copy = self._closing.enter_context(open_log(log_file)) if log_file else None
        self._writer = threading.Thread(target=self._write_all, name="terminal", daemon=True)
        self._writer.start()

    def write(self, name: str, text: str) -> None:
        """Write one line of process `name`; control characters in `text` are left out."""
        text = CONTROLS.sub("", ESCAPES.sub(_keep_colour, text.rstrip()))
        plain = f"{name:<{self._width}} | {COLOUR.sub('', text)}"
        with self._one_at_a_time:
            if self._copy is not None:
                os.write(self._copy, f"{plain}\n".encode(errors="replace"))
            try:
                self._tell_lost()
                self._waiting.put_nowait(self._shown(name, text) if self._coloured else plain)
            except queue.Full:
                self._lost += 1

    def close(self) -> None:
        """Write what waits, for two seconds at most, and close the copy; the stream stays open."""
        with self._one_at_a_time:
            with suppress(queue.Full):
                self._tell_lost(FLUSH_SECONDS)
                self._waiting.put(None, timeout=FLUSH_SECONDS)
                self._writer.join(FLUSH_SECONDS)
            self._copy = None
            self._closing.close()

    def _tell_lost(self, seconds: float = 0.0) -> None:
        if self._lost:
            notice = f"({self._lost} lines left out while the terminal was held up)"
            self._waiting.put(f"{'':<{self._width}} | {notice}", seconds > 0, seconds)
            self._lost = 0

    def _shown(self, name: str, text: str) -> str:
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        reset = RESET if COLOUR.search(text) else ""
        return f"\x1b[{colour}m{name:<{self._width}} |{RESET} {text}{reset}"

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            with suppress(OSError, ValueError):
                self._stream.write(f"{line}\n")
                if self._waiting.empty():
                    self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _keep_colour(sequence: re.Match[str]) -> str:
    return sequence[0] if COLOUR.fullmatch(sequence[0]) else ""
