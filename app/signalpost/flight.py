"""An attempt under way, as all who see to it know it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from signalpost.core.outcomes import Failure
from signalpost.repository.claimed import Claim
from signalpost.sender import Gathered, Progress

__all__ = ["Flight"]


@dataclass(slots=True)
class Flight:
    """An attempt under way in this process; ``epoch`` is the lease's when it was claimed."""

    claim: Claim
    epoch: int
    claimed_at: float
    """Steady seconds, before its claim was sent."""
    progress: Progress = field(default_factory=Progress)
    gathered: Gathered = field(default_factory=Gathered)
    task: asyncio.Task[object] | None = None
    aborted: Failure | None = None
    recording: bool = False

    def abort(self, why: Failure) -> None:
        """Cut the request, unless its answer is already being recorded."""
        if self.recording or self.aborted is not None:
            return
        self.aborted = why
        if self.task is not None:
            self.task.cancel()
