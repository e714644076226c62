"""Looking again and again until Ctrl-C: redrawn on a terminal, block below block elsewhere."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

import click

from signalpost.cli import values
from signalpost.cli.explaining import explain, passes

__all__ = ["draw", "watch", "watch_option"]

_SHORTEST_SECONDS = 0.2
_USUAL_LINES = 24


def _pace(text: str) -> float:
    seconds = values.span(text)
    if seconds < _SHORTEST_SECONDS:
        raise click.BadParameter("must be 200ms or more")
    return seconds


watch_option = click.option(
    "--watch",
    "every",
    is_flag=False,
    flag_value="2s",
    type=_pace,
    metavar="[SPAN]",
    help="Look again, every 2s or SPAN, until Ctrl-C.",
)


def watch(look: Callable[[], None], away: Callable[[str], None], *, seconds: float) -> None:
    """Look every `seconds` until Ctrl-C, which is its ordinary end, or until its reader has gone.

    A database that goes away while watching ends nothing: `away` is told in one line what is the
    matter, and the next look tries again. At the first look such trouble is an error like any.
    """
    well_once = False
    with suppress(KeyboardInterrupt), _wrapping_again(), _remembered_interrupts() as interrupts:
        while not interrupts:
            began = time.monotonic()
            try:
                look()
                well_once = True
            except Exception as error:
                if interrupts:  # what a library makes of Ctrl-C while it cleans up
                    break
                if not (well_once and passes(error)):
                    raise
                away(explain(error))
            sys.stdout.flush()
            if not interrupts:
                time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    # After the ^C that the terminal shows.
    click.echo(err=True)


@contextmanager
def _wrapping_again() -> Iterator[None]:
    """Leave a terminal as it was found, also where Ctrl-C comes in the middle of a block."""
    try:
        yield
    finally:
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[?7h")
            sys.stdout.flush()


@contextmanager
def _remembered_interrupts() -> Iterator[list[int]]:
    """Note each Ctrl-C as well as raising it.

    Python drops an exception that is raised inside a finalizer or a weak reference's callback, and
    a look at the database runs many of both: the Ctrl-C that fell there would be lost.
    """
    seen: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a handler's form
        seen.append(number)
        raise KeyboardInterrupt

    former = signal.getsignal(signal.SIGINT)
    # A shell's background job ignores Ctrl-C, which is meant for another.
    if former is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, former)


def draw(lines: Sequence[str]) -> None:
    """Show a block: over the one before on a terminal, below it and apart elsewhere."""
    if not sys.stdout.isatty():
        click.echo("\n".join([*lines, ""]))
        return
    # Of the terminal itself, which may have another size than LINES had when it was set.
    height = os.get_terminal_size(sys.stdout.fileno()).lines or _USUAL_LINES
    shown = list(lines)
    if len(shown) >= height:
        shown = [*shown[: height - 2], f"... and {len(shown) - height + 2} lines more"]
    # The terminal itself cuts long lines while it does not wrap; nothing flickers, for each line is
    # written over the old one.
    sys.stdout.write("\x1b[?7l\x1b[H")
    for line in shown:
        click.echo(line, nl=False)
        sys.stdout.write("\x1b[K\n")
    sys.stdout.write("\x1b[J\x1b[?7h")
