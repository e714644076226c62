"""Rounds: what an engine looks at again and again, whatever messages and rings there were."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from signalpost.clock import RENEW_EVERY_SECONDS, Lease
from signalpost.database import DATABASE_TROUBLE
from signalpost.gate import REFRESH_EVERY_SECONDS, Gate
from signalpost.logs import Seldom, place
from signalpost.outbox import Outbox
from signalpost.repository.keys import Key
from signalpost.repository.walking import START
from signalpost.sweeps import Sweeps
from signalpost.vigil import LAPSE_LOOK_SECONDS, Vigil

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS = 1.0
SWEEP_UP_SECONDS = 10.0
EXPIRE_AT_ONCE = 500


class Rounds:
    """The loops of one engine; an error in one of them ends none."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        lease: Lease,
        vigil: Vigil,
        gate: Gate,
        sweeps: Sweeps,
        announce_alerts: Callable[[Sequence[int]], None],
    ) -> None:
        self._outbox = outbox
        self._lease = lease
        self._vigil = vigil
        self._gate = gate
        self._sweeps = sweeps
        self._announce_alerts = announce_alerts
        self._unparking = True
        self._walk: Key = START
        self._expiring = True

    @property
    def looks(self) -> Sequence[tuple[Callable[[], Awaitable[None]], float]]:
        """What is looked at beside the lease, and every how many seconds, each in its own loop."""
        return (
            (self._vigil.cut_lapsed, LAPSE_LOOK_SECONDS),
            (self._vigil.warn_of_clock, RENEW_EVERY_SECONDS),
            (self._vigil.end_unheld_claims, RENEW_EVERY_SECONDS),
            (self._vigil.take_back, RENEW_EVERY_SECONDS),
            (self._expire, LOOK_EVERY_SECONDS),
            (self._sweeps.rescue, LOOK_EVERY_SECONDS),
            (self.refresh_gate, REFRESH_EVERY_SECONDS),
            (self._walk_keys, LOOK_EVERY_SECONDS),
            (self._let_stuck_go, SWEEP_UP_SECONDS),
            (self._tell_long_open, SWEEP_UP_SECONDS),
        )

    def start(self) -> list[asyncio.Task[None]]:
        """Begin them all; whoever ends the engine cancels these tasks."""
        return [
            asyncio.create_task(self._vigil.keep_renewing()),
            *(asyncio.create_task(self._for_ever(look, every)) for look, every in self.looks),
        ]

    def stop_expiring(self) -> None:
        """End nothing any more, as the engine is ending itself; the loops go on until cancelled."""
        self._expiring = False

    async def refresh_gate(self) -> None:
        """Learn what is paused; let go what is not any more."""
        asked_at = self._lease.steady
        standing = await self._outbox.read_standing()
        fewer = self._gate.refreshed(standing.pauses, asked_at=asked_at)
        if fewer or standing.probing:
            self._sweeps.look(0.0)
        # Kept before it is tried: one that fails is tried again, though nothing is news by then.
        self._unparking = self._unparking or fewer
        if self._unparking:
            self._unparking = await self._outbox.unpark() > 0
            if self._unparking:
                self._sweeps.look(0.0)

    async def _walk_keys(self) -> None:
        """The net under the order: find what is held for no reason, some keys at a time."""
        step = await self._outbox.find_stuck(self._walk)
        self._walk = step.after
        if step.stuck:
            logger.error("%d ordering keys waited for nobody; they go on", step.stuck)
            self._sweeps.look(0.0)

    async def _let_stuck_go(self) -> None:
        """The nets under resume and supersede."""
        self._unparking = True
        if await self._outbox.let_stuck_go():
            self._sweeps.look(0.0)

    async def _tell_long_open(self) -> None:
        """The alerts of breakers that stay open."""
        alerts = await self._outbox.tell_long_open()
        if alerts:
            self._announce_alerts(alerts)

    async def _expire(self) -> None:
        while self._expiring and self._lease.fresh:
            expired = await self._outbox.expire_pending(limit=EXPIRE_AT_ONCE)
            if expired:
                logger.warning("%d deliveries expired before an attempt", len(expired))
                self._announce_alerts([item.alert_id for item in expired])
                self._sweeps.look(0.0)
            if len(expired) < EXPIRE_AT_ONCE:
                return

    async def _for_ever(self, look: Callable[[], Awaitable[None]], every_seconds: float) -> None:
        seldom = Seldom()
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await look()
                seldom.over()
            except DATABASE_TROUBLE as trouble:
                if seldom.lets(self._lease.steady):
                    logger.warning("the look at the outbox failed: %s", type(trouble).__name__)
            except Exception as error:  # noqa: BLE001 - a loop that ends would end in silence
                logger.error(
                    "an unforeseen error, please report it; trying on error=%s place=%s",
                    type(error).__name__,
                    place(error),
                )
