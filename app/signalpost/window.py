"""A process's places for requests under way: those of its window, and its callers' threads."""

from __future__ import annotations

import asyncio
from collections import Counter

from signalpost.core.shares import Room
from signalpost.repository.claimed import Claim


class Window:
    """At most ``size`` places taken at once, ``reserved`` of them by the exit lane only."""

    def __init__(self, size: int, reserved: int = 0) -> None:
        self.size = size
        self.reserved = reserved
        self._free = size
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        """Places free now."""
        return self._free

    @property
    def crowded(self) -> bool:
        """Whether all places are taken but for the reserved ones."""
        return self._free <= self.reserved

    async def take(self, most: int, seconds: float | None = None) -> int:
        """Wait until a place is free that is not reserved, then take up to ``most``.

        Returns:
            How many were taken; 0 when none was free for so many seconds.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.crowded:
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            return 0
        taken = min(most, self._free - self.reserved)
        self._free -= taken
        return taken

    def take_reserved(self, most: int) -> int:
        """Take up to ``most`` places of whatever is free, reserved ones too; return how many."""
        taken = min(most, self._free)
        self._free -= taken
        return taken

    def give_back(self, count: int) -> None:
        """Free places."""
        self._free += count
        if count:
            self._freed.set()


class Threads:
    """The threads of callers, each of which waits for one attempt.

    One is always left free, to hand on to the window what may not wait in a thread; so many
    attempts that last long, of whichever endpoints, never hold up the messages of others.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._flights: Counter[int] = Counter()
        self._high: Counter[int] = Counter()

    @property
    def room(self) -> Room:
        """What is free, and who has the others; one in eight is for the exit lane."""
        free = max(0, self._size - 1 - self._flights.total())
        return Room(free, max(1, self._size // 8), self._flights, self._high)

    def take(self, claim: Claim) -> None:
        """Let a thread wait for the attempt of a claim."""
        self._flights[claim.endpoint_id] += 1
        self._high[claim.endpoint_id] += claim.priority

    def give_back(self, claim: Claim) -> None:
        """The attempt has ended."""
        for flights, own in ((self._flights, 1), (self._high, claim.priority)):
            flights[claim.endpoint_id] -= own
            if not flights[claim.endpoint_id]:
                del flights[claim.endpoint_id]
