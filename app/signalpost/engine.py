"""The engine: three ways in (deliver, drain, rescue), one asyncio loop, the same checks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from signalpost.clock import Lease
from signalpost.core.outcomes import Failure
from signalpost.database import DATABASE_TROUBLE
from signalpost.dispatch import Dispatcher
from signalpost.holding import Holder
from signalpost.intake import THREADS, Intake
from signalpost.outbox import Outbox
from signalpost.reports import SHUTTING_DOWN, Report, Tally
from signalpost.rounds import Rounds
from signalpost.sweeps import Sweeps
from signalpost.timers import Timers
from signalpost.vigil import Vigil
from signalpost.window import Window

logger = logging.getLogger(__name__)

WINDOW_SIZE = 400
"""Alone, an endpoint may have two thirds of what is not reserved: 240, so that a receiver which
takes 200 ms is served 1,200 times a second by one process."""
DRAINS_PART = 16
"""Of so many threads, one is for a drain that waits for the attempts it began."""
SOON_SECONDS = 5.0
"""A message that comes early by no more than this is sent round again; others get a timer."""
LAST_RECORDS_SECONDS = 5.0
RESERVED_PART = 10
"""One in so many places of the window is for the exit lane alone."""


class Engine:
    """One worker process's engine. All methods belong to its event loop."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        dispatcher: Dispatcher,
        lease: Lease,
        enabled: bool,
        shutdown_seconds: float,
        announce_alerts: Callable[[Sequence[int]], None],
        ring: Callable[[], None] = lambda: None,
        window_size: int = WINDOW_SIZE,
        threads: int = THREADS,
    ) -> None:
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._lease = lease
        self._enabled = enabled
        self._announce_alerts = announce_alerts
        self._shutdown_seconds = shutdown_seconds
        self.vigil = Vigil(
            outbox=outbox,
            lease=lease,
            dispatcher=dispatcher,
            heard=self._hear_of_lost,
            back=lambda: self.look(0.0),
        )
        self._window = Window(window_size, reserved=window_size // RESERVED_PART)
        self._holder = Holder(
            outbox=outbox,
            dispatcher=dispatcher,
            look=self.look,
            announce_alerts=announce_alerts,
        )
        self._intake = Intake(
            outbox=outbox,
            dispatcher=dispatcher,
            holder=self._holder,
            lease=lease,
            window=self._window,
            closed=lambda: self.closed,
            again=self.set_timer,
            taken=self.drop_timer,
            announce_alerts=announce_alerts,
            look=self.look,
            threads=threads - threads // DRAINS_PART,
        )
        self._timers = Timers(self._intake.take_one_soon)
        self._sweeps = Sweeps(
            intake=self._intake,
            window=self._window,
            closed=lambda: self.closed,
            spawn=self._holder.spawn,
            ring=ring,
            threads=threads // DRAINS_PART,
        )
        self._rounds = Rounds(
            outbox=outbox,
            lease=lease,
            vigil=self.vigil,
            gate=dispatcher.gate,
            sweeps=self._sweeps,
            announce_alerts=announce_alerts,
        )
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Begin to renew, rescue and expire; returns at once, also while the database is away."""
        if await self.vigil.renew():
            with suppress(*DATABASE_TROUBLE):
                await self._rounds.refresh_gate()
        logger.info(
            "engine started worker=%s id=%s window=%d%s",
            self._outbox.worker_name,
            self._outbox.worker_id,
            self._window.size,
            "" if self._enabled else ": sending is disabled (HMAC_PRODUCER_ENABLED)",
        )
        self._loops = self._rounds.start()

    @property
    def closed(self) -> str:
        """Why nothing may be claimed now; empty where it may."""
        if self._stopping:
            return SHUTTING_DOWN
        if not self._enabled:
            return "sending is disabled (HMAC_PRODUCER_ENABLED)"
        if not self._lease.fresh:
            return "no lease: the database is away"
        return "" if self._lease.clock_ok else "this machine's clock is off"

    @property
    def trouble(self) -> str | None:
        """Why nothing is sent that should be, or None."""
        ago = self._lease.renewed_seconds_ago
        if not self._lease.fresh:
            since = "never" if ago is None else f"not for {ago:.0f} s"
            return f"the engine has {since} renewed its lease: the database is away"
        return None if self._lease.clock_ok else "this machine's clock is off: nothing is sent"

    @property
    def in_flight(self) -> int:
        """How many attempts are under way."""
        return len(self._dispatcher.flights)

    async def deliver(self, delivery_id: UUID) -> Report:
        """Make one attempt of one delivery, if it can be claimed.

        The caller sees to its retry where the report names one.
        """
        report = await self._intake.take_one(delivery_id)
        wait = report.retry_in_seconds
        if report.outcome == "not_claimed" and wait is not None and wait > SOON_SECONDS:
            self.set_timer(report)
            return replace(report, retry_in_seconds=None)
        return report

    async def drain(self) -> Tally:
        """Claim and send whatever is due, until nothing is; return what became of it."""
        return await self._sweeps.drain()

    def look(self, after_seconds: float) -> None:
        """Look again at what is due after so long, or sooner where that was asked for already."""
        self._sweeps.look(after_seconds)

    def set_timer(self, report: Report) -> None:
        """Try again in time what nobody else will: a retry recorded outside ``deliver``."""
        self._timers.set(report)

    def _hear_of_lost(self, report: Report) -> None:
        """See to what follows a lost claim, as nobody waits for its report."""
        self.set_timer(report)
        if report.makes_room:
            self.look(0.0)
        if report.alert_ids:
            self._announce_alerts(report.alert_ids)

    def drop_timer(self, delivery_id: UUID) -> None:
        """Forget the timer of a delivery that was taken before it rang."""
        self._timers.drop(delivery_id)

    def begin_shutdown(self) -> None:
        """Claim nothing more; give what is in flight until the deadline."""
        if self._stopping:
            return
        self._stopping = True
        self._sweeps.stop()
        self._timers.stop()
        self._rounds.stop_expiring()
        loop = asyncio.get_running_loop()
        loop.call_later(self._shutdown_seconds, self.abort_flights)
        loop.call_later(self._shutdown_seconds + LAST_RECORDS_SECONDS, self._give_up)

    def abort_flights(self) -> None:
        """Cut every request: unsent ones are given back, the others recorded as unknown."""
        for flight in list(self._dispatcher.flights.values()):
            flight.abort(Failure.SHUTDOWN)

    def _give_up(self) -> None:
        """Leave what cannot be recorded to the others, who will find these claims lost."""
        for flight in list(self._dispatcher.flights.values()):
            if flight.task is not None:
                flight.task.cancel()

    async def finish(self) -> None:
        """Wait for what is in flight, at most until the shutdown's deadline, and end in order."""
        self.begin_shutdown()
        await self._wait_for_flights(self._shutdown_seconds)
        self.abort_flights()
        await self._wait_for_flights(LAST_RECORDS_SECONDS)
        self._give_up()
        leftover = [*self._loops, *self._holder.tasks]
        for task in leftover:
            task.cancel()
        await asyncio.gather(*leftover, return_exceptions=True)
        try:
            await self._outbox.stop()
        except DATABASE_TROUBLE:
            logger.warning("could not say goodbye: the database is away")

    async def _wait_for_flights(self, seconds: float) -> None:
        deadline = self._lease.steady + seconds
        # A claim that is being made is a flight to come; left alone, its delivery would be lost
        # news to the others, who could not know that it was never sent.
        while self._outbox.claiming or self._dispatcher.flights:
            left = deadline - self._lease.steady
            if left <= 0:
                return
            flying = [f.task for f in self._dispatcher.flights.values() if f.task is not None]
            if flying:
                await asyncio.wait(flying, timeout=left)
            else:
                await asyncio.sleep(0.01)
