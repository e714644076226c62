"""The gate before every first byte: what is paused, as of less than a second ago."""

from __future__ import annotations

from collections.abc import Sequence

from signalpost.clock import Lease
from signalpost.core.outcomes import Failure
from signalpost.core.pausing import Pause
from signalpost.repository.claimed import Claim

REFRESH_EVERY_SECONDS = 0.25
STALE_SECONDS = 1.0
"""What is known of the pauses is good for so long, counted from when it was asked for."""


class Gate:
    """What one process knows of the pauses; shut while it does not know enough."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._pauses: tuple[Pause, ...] = ()
        self._asked_at: float | None = None

    def refreshed(self, pauses: Sequence[Pause], *, asked_at: float) -> bool:
        """Take what the database says, asked at these steady seconds; whether it lets more go."""
        fewer = not set(self._pauses) <= set(pauses)
        self._pauses = tuple(pauses)
        self._asked_at = asked_at
        return fewer

    def knows(self, claimed_at: float) -> bool:
        """Whether the pauses are known well enough for a claim made at these steady seconds.

        A claim has asked for them itself.
        """
        asked_at = claimed_at if self._asked_at is None else max(self._asked_at, claimed_at)
        return self._lease.steady - asked_at < STALE_SECONDS

    def refuses(self, claim: Claim, *, claimed_at: float) -> Failure | None:
        """Why no first byte of a claim may be written now, if it may not."""
        if not self.knows(claimed_at):
            return Failure.STALE
        if not self._pauses:
            return None
        held = any(
            pause.holds(
                producer_id=claim.producer_id,
                instrument=claim.instrument,
                endpoint_id=claim.endpoint_id,
                high=claim.priority == 1,
            )
            for pause in self._pauses
        )
        return Failure.PAUSED if held else None
