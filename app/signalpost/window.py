"""A window of places for requests under way; whoever wants places waits until one is free."""

from __future__ import annotations

import asyncio


class Window:
    """At most ``size`` places taken at once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._freed = asyncio.Event()

    @property
    def free(self) -> int:
        """Places free now."""
        return self._free

    async def take(self, most: int) -> int:
        """Wait until a place is free, then take up to ``most``; return how many were taken."""
        while self._free == 0:
            self._freed.clear()
            await self._freed.wait()
        taken = min(most, self._free)
        self._free -= taken
        return taken

    def give_back(self, count: int) -> None:
        """Free places."""
        self._free += count
        if count:
            self._freed.set()
