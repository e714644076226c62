from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from signalpost.grouping import Grouped
from signalpost.window import Window


async def test_alone_an_item_is_served_at_once_and_a_crowd_shares_groups() -> None:
    """What arrives while a group is served goes together in the next one."""
    groups: list[list[int]] = []
    began, gate = asyncio.Event(), asyncio.Event()

    async def serve(items: Sequence[int]) -> list[int]:
        groups.append(list(items))
        began.set()
        await gate.wait()
        return [item * 10 for item in items]

    grouped = Grouped(serve, key=lambda item: item, most=3)
    first = asyncio.create_task(grouped.put(1))
    await began.wait()
    rest = [asyncio.create_task(grouped.put(item)) for item in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(first, *rest) == [10, 20, 30, 40, 50]
    assert groups == [[1], [2, 3, 4], [5]]


async def test_two_items_of_one_key_never_share_a_group() -> None:
    """A second item of the same key waits for the next group, in order."""
    groups: list[list[str]] = []

    async def serve(items: Sequence[str]) -> list[str]:
        groups.append(list(items))
        await asyncio.sleep(0)
        return list(items)

    grouped = Grouped(serve, key=lambda item: item[0], most=10)
    await asyncio.gather(*(grouped.put(item) for item in ("a1", "a2", "b1", "a3")))
    assert groups == [["a1", "b1"], ["a2"], ["a3"]]


async def test_a_failure_reaches_everyone_in_the_group_and_nobody_else() -> None:
    """An exception of the serving function is raised at each of the group's callers."""
    calls = 0

    async def serve(items: Sequence[int]) -> list[int]:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 1:
            raise LookupError("no")
        return list(items)

    grouped = Grouped(serve, key=lambda item: item, most=10)
    with pytest.raises(LookupError):
        await grouped.put(1)
    assert await grouped.put(2) == 2


async def test_a_window_never_holds_more_than_its_size() -> None:
    """Places are handed out up to the size; the next taker waits until one is given back."""
    window = Window(3)
    assert await window.take(2) == 2
    assert await window.take(5) == 1
    waiting = asyncio.create_task(window.take(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    window.give_back(2)
    assert await waiting == 1
    assert window.free == 1


async def test_an_answer_of_the_wrong_length_is_told_to_all_who_wait() -> None:
    """Nobody is left waiting for ever by a function that forgets one of its items."""

    async def forgetful(items: Sequence[int]) -> Sequence[int]:
        return [*items][1:]

    grouped: Grouped[int, int] = Grouped(forgetful, key=lambda item: item, most=10)
    with pytest.raises(ValueError, match="shorter"):
        await asyncio.wait_for(grouped.put(1), 5)
