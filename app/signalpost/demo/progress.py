"""The demo as it goes on: a line that keeps changing on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape

from signalpost.repository.evidence import Evidence

__all__ = ["Progress", "standing"]

PLAIN_EVERY_SECONDS = 3.0


class Progress:
    """Tells the demo's steps and where it stands; a context manager."""

    def __init__(self, console: Console, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._monotonic = monotonic
        self._start = monotonic()
        self._last_plain = 0.0
        self._status = console.status("starting") if console.is_terminal else None

    @property
    def seconds(self) -> float:
        """How long the demo has been running."""
        return self._monotonic() - self._start

    def tell(self, line: str) -> None:
        """Tell something that happened; it stays on the screen."""
        self._console.print(
            f"{self.seconds:5.1f} s  {escape(line)}", highlight=False, soft_wrap=True
        )

    def show(self, line: str) -> None:
        """Show where things stand; on a terminal it takes the place of what was shown before."""
        if self._status is not None:
            self._status.update(f"{self.seconds:4.0f} s  {escape(line)}")
        elif self.seconds - self._last_plain >= PLAIN_EVERY_SECONDS:
            self._last_plain = self.seconds
            self.tell(line)

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()


def standing(evidence: Evidence, alerts: int) -> str:
    """Where things stand, in one line."""
    status = Counter(fact.status for fact in evidence.deliveries)
    retries = sum(fact.number > 1 for fact in evidence.attempts)
    shown = ", ".join(f"{number} {name}" for name, number in sorted(status.items()))
    return (
        f"{len(evidence.signal_ids)} signals, {len(evidence.deliveries)} deliveries"
        f"{f' ({shown})' if shown else ''}, {retries} retries, {alerts} alerts"
    )
