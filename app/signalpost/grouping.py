"""Calls that arrive while one is under way share the next one: natural groups, no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Grouped(Generic[Item, Result]):
    """Serve single items by a function that takes many.

    Alone, an item is served at once; under load, everything that came meanwhile goes together, so
    one commit pays for all. Two items with the same key never share a group. A result that is an
    exception is raised for its own item only; one that the function raises, for all of the group.
    """

    def __init__(
        self,
        serve: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        key: Callable[[Item], Hashable],
        most: int,
    ) -> None:
        self._serve = serve
        self._key = key
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._running: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> Result:
        """Hand in one item and wait for its result; raises what the serving function raised."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            # In a context of its own: what one caller's task says of itself is not true of all.
            self._running = asyncio.create_task(self._run(), context=Context())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._serve_group(self._take())
        finally:
            self._running = None

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        group: dict[Hashable, tuple[Item, asyncio.Future[Result]]] = {}
        rest: list[tuple[Item, asyncio.Future[Result]]] = []
        for entry in self._waiting:
            key = self._key(entry[0])
            if key in group or len(group) == self._most:
                rest.append(entry)
            else:
                group[key] = entry
        self._waiting = rest
        return list(group.values())

    async def _serve_group(self, group: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._serve([item for item, _ in group])
            pairs = list(zip(group, results, strict=True))
        except Exception as error:  # noqa: BLE001 - handed to everyone who waits for it
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in pairs:
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
