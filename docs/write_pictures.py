"""`make screenshots`: the README's pictures, taken of a demo that runs while they are taken.

The demo and `status --watch` run as processes on terminals of their own; what those show becomes
an SVG. Flower is photographed by a headless Chromium. The name of the machine is the one thing
that a picture shows differently.
"""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path

from rich.console import Console
from rich.text import Text

from docs.browser import Shot, find_chromium, photograph
from signalpost.embedded import Stack

PICTURES = Path(__file__).parent / "pictures"
DEMO, STATUS, FLOWER = PICTURES / "demo.svg", PICTURES / "status.svg", PICTURES / "flower.png"

MACHINE = "desk-1"
"""What the pictures call the machine."""
COLUMNS, ROWS = 112, 40
FLOWER_SIZE = (1800, 800)
LONGEST_SECONDS = 180.0
LOOK_SECONDS = 0.1

_REPORT = "What signalpost recorded"
_KEPT = "Everything stays up"
_ROWS_OF_TASKS = "document.querySelectorAll('#tasks-table tbody tr td:nth-child(3)').length > 5"
_NOT_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]|\r")
_FONT_FILES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def main() -> int:
    """Take them all; 1 where one could not be taken."""
    chromium = find_chromium()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="signalpost-pictures-") as home:
        folder = Path(home) / "demo"
        with terminal("demo", "--keep", "--data", str(folder)) as demo:
            demo.wait_for("the strategy, a process")
            with terminal("status", "--watch", "500ms", "--data", str(folder)) as status:
                demo.wait_for(_KEPT)
                screens = status.screens
            DEMO.write_text(drawn(report_in(demo.heard), "make demo"), encoding="utf-8")
            STATUS.write_text(drawn(telling(screens), "signalpost status --watch"), "utf-8")
            if chromium is not None:
                FLOWER.write_bytes(_flower(chromium, folder))
    if chromium is None:
        print(  # noqa: T201 - to whoever typed make
            f"{FLOWER.name} was not taken: that needs Chromium; install it, or name one: "
            "CHROMIUM=/path/to/chromium make screenshots",
            file=sys.stderr,
        )
    return int(chromium is None)


def _flower(chromium: str, folder: Path) -> bytes:
    stack = Stack.attach(folder)
    shot = Shot(
        f"{stack.flower_url}/tasks",
        login=(stack.flower_user, stack.flower_password),
        ready=_ROWS_OF_TASKS,
        words={socket.gethostname(): MACHINE},
        size=FLOWER_SIZE,
    )
    return photograph(chromium, shot)


class Terminal:
    """What a program has written to a terminal of its own so far; a thread reads it."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._bytes = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def heard(self) -> str:
        """All of it."""
        return self._bytes.decode("utf-8", "replace")

    @property
    def screens(self) -> list[str]:
        """All that were drawn whole, one over another."""
        return [screen.partition("\x1b[J")[0] for screen in self.heard.split("\x1b[H")[1:-1]]

    def wait_for(self, words: str) -> None:
        """Wait until it has written `words`; raises TimeoutError."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while words not in self.heard:
            if time.monotonic() > deadline or not self._reader.is_alive():
                raise TimeoutError(f"{words!r} did not come; it ended with:\n{self.heard[-2000:]}")
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Once the program has ended."""
        self._reader.join()
        os.close(self._file)

    def _read(self) -> None:
        with suppress(OSError):  # how a terminal says that its program has gone
            while new := os.read(self._file, 65536):
                self._bytes += new


@contextmanager
def terminal(*words: str) -> Iterator[Terminal]:
    """`signalpost WORDS` on a terminal of its own, until Ctrl-C at the end."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    program = subprocess.Popen(
        [Path(sys.executable).with_name("signalpost"), *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)},
        start_new_session=True,
    )
    os.close(theirs)
    shown = Terminal(ours)
    try:
        yield shown
    finally:
        program.send_signal(signal.SIGINT)
        program.wait()
        shown.close()


def report_in(heard: str) -> str:
    """The report with which the demo ends."""
    plain = _NOT_COLOUR.sub("", heard)
    end = plain[: plain.index(_KEPT)]
    return end[end.rindex("\n", 0, end.index(_REPORT)) + 1 :].rstrip()


def telling(screens: list[str]) -> str:
    """The screen that tells most: the last one with an endpoint in trouble, else the last."""
    clean = [_NOT_COLOUR.sub("", screen).rstrip() for screen in screens]
    return next((s for s in reversed(clean) if "no endpoint in trouble" not in s), clean[-1])


def drawn(content: str, title: str) -> str:
    """A terminal with this content (text with ANSI colours), as SVG."""
    shown = re.sub(r"\(data folder [^)]*\)", "(data folder demo)", content)
    shown = shown.replace(socket.gethostname(), MACHINE)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(shown))
    name = "-".join(re.findall(r"\w+", title))
    image = console.export_svg(title=title, unique_id=name)
    # Whoever looks at a picture fetches nothing from elsewhere; the reader's own font will do.
    return _FONT_FILES.sub("", image)


if __name__ == "__main__":
    sys.exit(main())
