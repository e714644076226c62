"""How long to wait before what has died is started again."""

from __future__ import annotations

from dataclasses import dataclass, field

from signalpost.core.backoff import Backoff

__all__ = ["Restarts"]


@dataclass(slots=True)
class Restarts:
    """The waits between the restarts of one process: 1, 2, 4 ... 30 s.

    One that lived for `settled_seconds` begins anew at the shortest wait.
    """

    backoff: Backoff = field(default_factory=lambda: Backoff(1, 30, jitter=0))
    settled_seconds: float = 60.0
    deaths: int = 0

    def delay(self, lived_seconds: float) -> float:
        """Seconds to wait now that the process has died after `lived_seconds`."""
        if lived_seconds >= self.settled_seconds:
            self.deaths = 0
        self.deaths += 1
        return self.backoff.delay(self.deaths - 1, 0.0)
