"""When what a look left for want of room is looked for again."""

from __future__ import annotations

import asyncio

from signalpost.core.shares import Kept
from signalpost.leftovers import FEW_SECONDS, Leftovers
from signalpost.repository.claimed import Claimed
from signalpost.window import Loads, Window
from tests.waiting import until

ONE = 7
"""An endpoint."""


async def full() -> tuple[Leftovers, Window, Loads, list[float]]:
    """A process of 60 places, of which one endpoint has its share, and more of it is due."""
    window, loads, looks = Window(60), Loads(), list[float]()
    loads.flights[ONE] = await window.take(40)
    left = Leftovers(loads=loads, window=window, look=looks.append)
    left.remember(Claimed(kept=Kept(normal=frozenset({ONE}))), whole=True)
    left.see_room()
    assert looks == []
    return left, window, loads, looks


def end(count: int, window: Window, loads: Loads) -> None:
    """So many of its attempts end."""
    loads.flights[ONE] -= count
    window.give_back(count)


async def test_a_single_place_is_looked_for_a_little_later() -> None:
    """Nobody else has taken it by then."""
    left, window, loads, looks = await full()
    end(1, window, loads)
    left.see_room()
    assert looks == []
    await until(lambda: looks == [0.0])


async def test_a_place_that_another_look_has_taken_meanwhile_costs_none() -> None:
    """The later look is not made where it could find no room."""
    left, window, loads, looks = await full()
    end(1, window, loads)
    left.see_room()
    loads.flights[ONE] += await window.take(1)
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(FEW_SECONDS, later.set)  # after the look's own timer
    await later.wait()
    assert looks == []


async def test_several_places_are_looked_for_at_once() -> None:
    """They are worth it."""
    left, window, loads, looks = await full()
    end(4, window, loads)
    left.see_room()
    assert looks == [0.0]
