"""A window of places for requests under way; whoever wants places waits until one is free."""

from __future__ import annotations

import asyncio


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

    async def take(self, most: int) -> int:
        """Wait until a place is free, then take up to ``most``; return how many were taken."""
        await self.wait()
        taken = min(most, self._free - self.reserved)
        self._free -= taken
        return taken

    async def wait(self) -> None:
        """Wait until a place is free that is not reserved."""
        while self.crowded:
            self._freed.clear()
            await self._freed.wait()

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
