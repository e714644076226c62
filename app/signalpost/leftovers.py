"""What looks leave for want of room, and the look again once there is some."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from signalpost.core.shares import Kept, Room
from signalpost.repository.claimed import Claimed
from signalpost.window import Loads, Window

FEW_SECONDS = 0.25
"""A place or two of an endpoint that has many wait so long for a look, if no other one comes."""


class Leftovers:
    """Knows what the last look left, and asks for another one when that may find more.

    ``loads`` and ``window`` are read as they are when room is asked for. ``look`` asks for a look
    after so many seconds.
    """

    def __init__(self, *, loads: Loads, window: Window, look: Callable[[float], None]) -> None:
        self._loads = loads
        self._window = window
        self._look = look
        self._few: asyncio.TimerHandle | None = None
        self.more = False
        """Whether the last look may have left something due, for limits that attempts hold."""
        self.kept = Kept()
        """Whose that is, where their share of this process's places was used up."""
        self.seen_all = False
        """Whether the last look saw all that was due, so that another one at once finds nothing."""

    def remember(self, claimed: Claimed, *, whole: bool) -> None:
        """Keep in mind what a look left; one at a part of what is due knows only of that part."""
        self.more = claimed.more or (self.more and not whole)
        self.kept = claimed.kept if whole else self.kept | claimed.kept
        self.seen_all = whole and claimed.seen_all

    def see_room(self) -> None:
        """Look again if there is room now for what the last look left for want of it.

        Whoever gives places back, or ends an attempt, calls this afterwards, and so does every look
        once it has left word of what it kept back: so room that is made before that is seen by the
        look itself, and room that is made later by its maker. All of it is one loop's, without an
        await between. An end that makes no room for anybody costs no look: beside an endpoint that
        has its share all the time, a look for each attempt of all others would cost more than they.
        Nor is a look due at once for a place or two of many; it comes a little later, unless
        another one has taken them by then.
        """
        if not self.kept:
            return
        room = self._room()
        if self.kept.hurries(room):
            self._look(0.0)
        elif self._few is None and self.kept.fits(room):
            self._few = asyncio.get_running_loop().call_later(FEW_SECONDS, self._see_few)

    def _see_few(self) -> None:
        self._few = None
        if self.kept.fits(self._room()):
            self._look(0.0)

    def _room(self) -> Room:
        window, loads = self._window, self._loads
        return Room(window.free, window.reserved, loads.flights, loads.high)
