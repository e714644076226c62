"""The engine: three ways in (deliver, drain, rescue), one asyncio loop, the same checks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from uuid import UUID

from signalpost.clock import RENEW_EVERY_SECONDS, Lease
from signalpost.core.outcomes import Failure
from signalpost.dispatch import Dispatcher
from signalpost.intake import Intake
from signalpost.logs import place
from signalpost.outbox import DATABASE_TROUBLE, Outbox
from signalpost.reports import SHUTTING_DOWN, Report, Tally
from signalpost.vigil import LAPSE_LOOK_SECONDS, Vigil
from signalpost.window import Window

logger = logging.getLogger(__name__)

WINDOW_SIZE = 200
LOOK_EVERY_SECONDS = 1.0
OVERDUE_SECONDS = 2.0
EXPIRE_AT_ONCE = 500
SHORT_WAIT_SECONDS = 300.0
"""A retry due within this long gets a message or a timer; a later one is left to the rescue."""
SOON_SECONDS = 5.0
"""A message that comes early by no more than this is sent round again; others get a timer."""
MOST_TIMERS = 10_000
LAST_RECORDS_SECONDS = 5.0


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
        window_size: int = WINDOW_SIZE,
    ) -> None:
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._lease = lease
        self._enabled = enabled
        self._shutdown_seconds = shutdown_seconds
        self._announce_alerts = announce_alerts
        self.vigil = Vigil(outbox=outbox, lease=lease, dispatcher=dispatcher)
        self._window = Window(window_size)
        self._intake = Intake(
            outbox=outbox,
            dispatcher=dispatcher,
            lease=lease,
            window=self._window,
            closed=lambda: self.closed,
            again=self.set_timer,
            announce_alerts=announce_alerts,
        )
        self._timers: dict[UUID, asyncio.TimerHandle] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._draining = False
        self._rung = False
        self._stopping = False

    async def start(self) -> None:
        """Begin to renew, rescue and expire; returns at once, also while the database is away."""
        await self.vigil.renew()
        logger.info(
            "engine started worker=%s id=%s window=%d%s",
            self._outbox.worker_name,
            self._outbox.worker_id,
            self._window.size,
            "" if self._enabled else ": sending is disabled (HMAC_PRODUCER_ENABLED)",
        )
        self._loops = [
            asyncio.create_task(self.vigil.keep_renewing()),
            asyncio.create_task(self._for_ever(self.vigil.cut_lapsed, LAPSE_LOOK_SECONDS)),
            asyncio.create_task(self._for_ever(self.vigil.warn_of_clock, RENEW_EVERY_SECONDS)),
            asyncio.create_task(self._for_ever(self.vigil.end_unheld_claims, RENEW_EVERY_SECONDS)),
            asyncio.create_task(self._for_ever(self.vigil.take_back, RENEW_EVERY_SECONDS)),
            asyncio.create_task(self._for_ever(self._expire, LOOK_EVERY_SECONDS)),
            asyncio.create_task(self._for_ever(self._rescue, LOOK_EVERY_SECONDS)),
        ]

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

    # The three ways in.

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
        """Claim and send whatever is due, until nothing is; return what became of it.

        One drain a process: another one called meanwhile makes the running one look again. The
        flag is lowered before each look and read after it in one step with the decision to end, so
        a ring that arrives at any moment is either seen or finds no drain running.
        """
        tally = Tally()
        if self._draining:
            self._rung = True
            tally["joined"] = 1
            return tally
        flying: set[asyncio.Task[None]] = set()
        self._draining = True
        try:
            while not self.closed:
                self._rung = False
                taken = await self._intake.take_due(0.0, tally, flying)
                if not taken and not self._rung:
                    break
        finally:
            self._draining = False
        if flying:
            await asyncio.wait(flying)
        return tally

    async def _rescue(self) -> None:
        """Take what has been due for 2 s, whatever became of its message."""
        tally = Tally()
        while not self.closed and await self._intake.take_due(OVERDUE_SECONDS, tally, set()):
            pass

    async def _expire(self) -> None:
        while not self._stopping and self._lease.fresh:
            expired = await self._outbox.expire_pending(limit=EXPIRE_AT_ONCE)
            if expired:
                logger.warning("%d deliveries expired before an attempt", len(expired))
                self._announce_alerts([item.alert_id for item in expired])
            if len(expired) < EXPIRE_AT_ONCE:
                return

    # Timers: retries that no message will bring back in time.

    def set_timer(self, report: Report) -> None:
        """Try again in time what nobody else will: a retry recorded outside ``deliver``."""
        wait = report.retry_in_seconds
        if wait is None or wait > SHORT_WAIT_SECONDS or self._stopping:
            return
        if len(self._timers) >= MOST_TIMERS and report.delivery_id not in self._timers:
            return
        known = self._timers.pop(report.delivery_id, None)
        if known is not None:
            known.cancel()
        self._timers[report.delivery_id] = asyncio.get_running_loop().call_later(
            wait, self._timer_due, report.delivery_id
        )

    def _timer_due(self, delivery_id: UUID) -> None:
        self._timers.pop(delivery_id, None)
        self._intake.take_one_soon(delivery_id)

    async def _for_ever(self, look: Callable[[], Awaitable[None]], every_seconds: float) -> None:
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await look()
            except DATABASE_TROUBLE as trouble:
                logger.warning("the look at the outbox failed: %s", type(trouble).__name__)
            except Exception as error:  # noqa: BLE001 - a loop that ends would end in silence
                logger.error(
                    "an unforeseen error, please report it; trying on error=%s place=%s",
                    type(error).__name__,
                    place(error),
                )

    # The end.

    def begin_shutdown(self) -> None:
        """Claim nothing more; give what is in flight until the deadline."""
        if self._stopping:
            return
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
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
        leftover = [*self._loops, *self._intake.tasks]
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
