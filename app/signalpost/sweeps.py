"""Sweeps: claim and send whatever is due, at a ring, at a look, or because it is overdue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from signalpost.intake import CLAIMS_AT_ONCE, Intake
from signalpost.reports import Tally
from signalpost.window import Flying, Window

OVERDUE_SECONDS = 2.0
RING_SECONDS = 0.2
"""While more is due than a process takes, it rings for the others after so long, then twice that,
and so on, or so often as long as its claims are full."""


class Sweeps:
    """Sees to it that what is due is looked for, and that no wish to look is lost.

    ``closed`` says why nothing may be claimed now, or nothing; ``spawn`` runs in the background;
    ``ring`` rings the doorbell, for whichever process hears it, and never waits.
    """

    def __init__(
        self,
        *,
        intake: Intake,
        window: Window,
        closed: Callable[[], str],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        ring: Callable[[], None],
        threads: int,
    ) -> None:
        """``threads``: how many drains may wait for the attempts that they began, at once."""
        self._intake = intake
        self._spawn = spawn
        self._window = window
        self._closed = closed
        self._threads = threads
        self._draining = False
        self._rung = asyncio.Event()
        self._sweep_asked = False
        self._next_look: asyncio.TimerHandle | None = None
        self._stopped = False
        self._ring = ring
        self._ring_at = 0.0
        self._ring_pause = RING_SECONDS

    async def drain(self) -> Tally:
        """Claim and send whatever is due, until nothing is; return what became of it so far.

        It waits for the attempts that it began, but only a few drains do so at once: each holds a
        thread of the worker, and with all of them waiting for a slow receiver no ring would be
        heard. The attempts of the others are counted as `under_way`, and go on without a thread.

        One drain a process: another one called meanwhile makes the running one look again. The
        flag is lowered before each look and read after it in one step with the decision to end, so
        a ring that arrives at any moment is either seen or finds no drain running.
        """
        tally = Tally()
        flying = Flying()
        if self._draining:
            self._rung.set()
            tally["joined"] = 1
            await self._take_exits(tally, flying)
        else:
            await self._sweep(tally, flying)
        if self._stopped:
            # Its message is used up, and what is due is for another process now.
            self._ring()
        if flying and self._threads:
            self._threads -= 1
            try:
                await flying.wait()
            finally:
                self._threads += 1
        return tally.so_far(under_way=len(flying))

    async def rescue(self) -> None:
        """Take what has been due for 2 s, whatever became of its message."""
        tally = Tally()
        await self._take_exits(tally, Flying())
        while not self._closed() and await self._intake.take_due(OVERDUE_SECONDS, tally, Flying()):
            pass

    def look(self, after_seconds: float) -> None:
        """Look again at what is due after so long, or sooner where that was asked for already.

        Called by whoever has removed a hindrance, and where only time does. A sweep under way
        looks once more before it ends.
        """
        if self._stopped:
            return
        if after_seconds <= 0:
            if self._draining:
                self._rung.set()
            elif not self._sweep_asked:
                self._sweep_asked = True
                self._spawn(self._sweep_again())
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + after_seconds
        if self._next_look is not None and self._next_look.when() > loop.time():
            if self._next_look.when() <= when:
                return
            self._next_look.cancel()
        self._next_look = loop.call_at(when, self.look, 0.0)

    def stop(self) -> None:
        """Look no more; whatever this process would have taken is another one's."""
        self._stopped = True
        self._ring()
        if self._next_look is not None:
            self._next_look.cancel()

    async def _sweep(self, tally: Tally, flying: Flying) -> None:
        self._draining = True
        flying.landed = self._rung.set
        try:
            while not self._closed():
                self._rung.clear()
                taken = await self._intake.take_due(0.0, tally, flying)
                self._call_others(taken)
                # Another look would find nothing that this one did not see, unless somebody has
                # called meanwhile: for room that was made, or for what has become due since.
                if self._rung.is_set() or (taken and not self._intake.left.seen_all):
                    continue
                if not (self._intake.left.more and flying):
                    break
                # What is left is kept back by limits that these very attempts hold. Whichever of
                # them makes room for it rings, as does the end of the last one.
                await self._rung.wait()
        finally:
            self._draining = False
            flying.landed = None

    def _call_others(self, taken: int) -> None:
        """Ring again where one look left more than this process takes.

        One ring wakes one process, whoever hears it first; without this the others would find a
        deep backlog by their rescue only. The doorbell holds one message at most, and one that
        this process hears itself is a look more; so the pauses grow, for where an endpoint has its
        share for long, the others have found theirs long since.
        """
        full = taken >= CLAIMS_AT_ONCE
        now = asyncio.get_running_loop().time()
        if full or not self._intake.left.kept:
            self._ring_pause = RING_SECONDS
        if (full or self._intake.left.kept) and now >= self._ring_at:
            self._ring_at = now + self._ring_pause
            self._ring_pause *= 2
            self._ring()

    async def _take_exits(self, tally: Tally, flying: Flying) -> None:
        """Send exits in the places reserved for them, while all others are taken."""
        while not self._closed() and self._window.crowded:
            if not await self._intake.take_due(0.0, tally, flying, high_only=True):
                return

    async def _sweep_again(self) -> None:
        self._sweep_asked = False
        tally = Tally()
        if self._draining:
            self._rung.set()
            await self._take_exits(tally, Flying())
        else:
            await self._sweep(tally, Flying())
