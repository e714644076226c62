"""Progress on standard error, and waiting until deliveries have come to their end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import click

from signalpost.cli.explaining import explain, passes
from signalpost.cli.interrupting import interrupted
from signalpost.cli.printing import note

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from signalpost.settings import Settings

__all__ = ["Progress", "follow"]

_AT_ONCE = 5000
_SHORTEST_POLL, _LONGEST_POLL = 0.1, 1.0


class Progress:
    """One line that is rewritten on a terminal, or a line every few seconds elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = 0.1 if self._terminal else 5.0
        self._shown_at = time.monotonic()
        self._width = 0

    def show(self, text: str) -> None:
        """Show how it stands, unless it was shown a moment ago."""
        now = time.monotonic()
        if now - self._shown_at < self._every:
            return
        self._shown_at = now
        if self._terminal:
            click.echo(f"\r{text.ljust(self._width)}", err=True, nl=False)
            self._width = len(text)
        else:
            click.echo(text, err=True)

    def clear(self) -> None:
        """Make room for the next line of text."""
        if self._width:
            click.echo(f"\r{' ' * self._width}\r", err=True, nl=False)
            self._width = 0


def follow(
    settings: Settings, delivery_ids: Sequence[UUID], progress: Progress, ended: Counter[str]
) -> None:
    """Wait until each delivery is in a terminal status; count in `ended` how many are in which.

    One that was pruned meanwhile counts as `pruned`. While the database is away it goes on waiting.
    """
    from signalpost.database import sync_engine

    open_ones = set(delivery_ids)
    engine = sync_engine(settings.database_url)
    try:
        note(f"waiting for {len(open_ones)} deliveries to end")
        _follow(engine, open_ones, progress, ended)
    finally:
        engine.dispose()
        progress.clear()
        if open_ones:
            note(
                f"{len(open_ones)} have not ended yet, and go on by themselves; "
                "`signalpost deliveries list --watch` shows them"
            )


def _follow(engine: Engine, open_ones: set[UUID], progress: Progress, ended: Counter[str]) -> None:
    away = False
    pause = _SHORTEST_POLL
    while open_ones:
        before = len(open_ones)
        try:
            _look(engine, open_ones, ended)
            away = False
        except Exception as error:
            if interrupted(error):
                raise KeyboardInterrupt from None
            if not passes(error):
                raise
            if not away:
                progress.clear()
                note(f"{explain(error)}; still waiting")
            away = True
        progress.show(f"waiting for {len(open_ones)}; ended: {counted(ended)}")
        if not open_ones:
            break
        pause = _SHORTEST_POLL if len(open_ones) < before else min(pause * 1.5, _LONGEST_POLL)
        time.sleep(pause)


def counted(counts: Counter[str]) -> str:
    """Counts in words, such as `12 delivered, 1 dead`."""
    return ", ".join(f"{number} {status}" for status, number in sorted(counts.items())) or "none"


def _look(engine: Engine, open_ones: set[UUID], ended: Counter[str]) -> None:
    from signalpost.repository.reading import statuses_of

    ids = list(open_ones)
    with engine.begin() as conn:
        for start in range(0, len(ids), _AT_ONCE):
            asked = ids[start : start + _AT_ONCE]
            found = statuses_of(conn, asked)
            for delivery_id in asked:
                status = found.get(delivery_id)
                if status is None or status.terminal:
                    open_ones.discard(delivery_id)
                    ended["pruned" if status is None else status.value] += 1
