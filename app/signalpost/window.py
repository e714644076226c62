"""A process's places for requests under way: those of its window, and its callers' threads."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

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


class Loads:
    """The attempts under way by endpoint, and those of the exit lane among them."""

    def __init__(self) -> None:
        self.flights: Counter[int] = Counter()
        self.high: Counter[int] = Counter()

    def take(self, claim: Claim) -> None:
        """An attempt of a claim has begun."""
        self.flights[claim.endpoint_id] += 1
        if claim.priority:
            self.high[claim.endpoint_id] += 1

    def give_back(self, claim: Claim) -> None:
        """It has ended."""
        for flights in (self.flights, self.high) if claim.priority else (self.flights,):
            flights[claim.endpoint_id] -= 1
            if not flights[claim.endpoint_id]:
                del flights[claim.endpoint_id]


class Threads(Loads):
    """The threads of callers, each of which waits for one attempt.

    One is always left free, to hand on to the window what may not wait in a thread; so many
    attempts that last long, of whichever endpoints, never hold up the messages of others.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    @property
    def room(self) -> Room:
        """What is free, and who has the others; one in eight is for the exit lane."""
        free = max(0, self._size - 1 - self.flights.total())
        return Room(free, max(1, self._size // 8), self.flights, self.high)


class Flying:
    """The attempts that one drain began and that are under way.

    ``landed``, where it is set, is called after the last one.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.landed: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: asyncio.Task[None]) -> None:
        """Count an attempt in, until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._end)

    async def wait(self) -> None:
        """Wait until all that are under way now have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks and self.landed is not None:
            self.landed()
