"""Holding: what follows at once from a claim, before any of it is sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from signalpost.database import DATABASE_TROUBLE
from signalpost.dispatch import Dispatcher
from signalpost.flight import Flight
from signalpost.outbox import Outbox
from signalpost.repository.claimed import Claimed

logger = logging.getLogger(__name__)

PLACE_AGAIN_SECONDS = 0.5
"""After a placing that failed; the look begins another one."""
KEY_HELD_SECONDS = 0.01
KEY_HELD_CAP_SECONDS = 0.25
"""A claim or a record holds an ordering key for milliseconds, but a producer's open transaction as
long as it likes: looks for the key's end double their distance up to this. Its commit rings."""


class Holder:
    """Holds claims for their attempts, tells what expired, and places what is new.

    ``look`` asks for another look at what is due, after so many seconds.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        dispatcher: Dispatcher,
        look: Callable[[float], None],
        announce_alerts: Callable[[Sequence[int]], None],
    ) -> None:
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._look = look
        self._announce_alerts = announce_alerts
        self._placing = False
        self._place_again = False
        self._in_vain = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def hold(self, claimed: Claimed, epoch: int, sent_at: float) -> list[Flight]:
        """Hold what a claim brought, in the very step in which its statement returned.

        Args:
            claimed: what it brought.
            epoch: the lease's, when the statement was sent.
            sent_at: when that was, in steady seconds.
        """
        flights = [
            self._dispatcher.take(claim, epoch=epoch, claimed_at=sent_at)
            for claim in claimed.claims
        ]
        if claimed.expired:
            self._announce_alerts([expired.alert_id for expired in claimed.expired])
            # Whoever waited behind one of these may go.
            self._look(0.0)
        if claimed.again_seconds is not None:
            self._look(claimed.again_seconds)
        if claimed.claims:
            self._in_vain = 0
        if claimed.key_held:
            self._look_for_held_keys()
        if claimed.unplaced:
            # The placing under way may have looked before this was there.
            self._place_again = self._placing
            if not self._placing:
                self._placing = True
                self.spawn(self._place())
        return flights

    async def _place(self) -> None:
        """Place what is new, in the background: whoever has claimed must not fail here."""
        try:
            placed = await self._outbox.place_new()
        except DATABASE_TROUBLE as trouble:
            logger.warning("placing failed: %s", type(trouble).__name__)
            self._look(PLACE_AGAIN_SECONDS)
            return
        finally:
            self._placing = False
        if placed.heads:
            self._in_vain = 0
            self._look(0.0)
        elif placed.left:
            self._look_for_held_keys()
        if self._place_again and not self._placing:
            self._place_again = False
            self._placing = True
            self.spawn(self._place())

    def _look_for_held_keys(self) -> None:
        wait = min(KEY_HELD_SECONDS * 2.0**self._in_vain, KEY_HELD_CAP_SECONDS)
        self._in_vain = min(self._in_vain + 1, 16)
        self._look(wait)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in the background, and be ended with the engine."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task
