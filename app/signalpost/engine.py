"""The engine: three ways in (deliver, drain, rescue), one asyncio loop, the same checks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import UUID

from signalpost.clock import RENEW_EVERY_SECONDS, Lease
from signalpost.core.outcomes import Failure
from signalpost.dispatch import Dispatcher
from signalpost.gate import REFRESH_EVERY_SECONDS
from signalpost.intake import THREADS, Intake
from signalpost.logs import Seldom, place
from signalpost.outbox import DATABASE_TROUBLE, Outbox
from signalpost.reports import SHUTTING_DOWN, Report, Tally
from signalpost.repository.placing import START, Key
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
SWEEP_UP_SECONDS = 10.0
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
        window_size: int = WINDOW_SIZE,
        threads: int = THREADS,
    ) -> None:
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._lease = lease
        self._enabled = enabled
        self._shutdown_seconds = shutdown_seconds
        self._announce_alerts = announce_alerts
        self.vigil = Vigil(outbox=outbox, lease=lease, dispatcher=dispatcher)
        self._window = Window(window_size, reserved=window_size // RESERVED_PART)
        self._intake = Intake(
            outbox=outbox,
            dispatcher=dispatcher,
            lease=lease,
            window=self._window,
            closed=lambda: self.closed,
            again=self.set_timer,
            announce_alerts=announce_alerts,
            look=self.look,
            threads=threads,
        )
        self._next_look: asyncio.TimerHandle | None = None
        self._sweep_asked = False
        self._unparking = True
        self._walk: Key = START
        self._timers: dict[UUID, asyncio.TimerHandle] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._draining = False
        self._rung = asyncio.Event()
        self._stopping = False

    async def start(self) -> None:
        """Begin to renew, rescue and expire; returns at once, also while the database is away."""
        if await self.vigil.renew():
            with suppress(*DATABASE_TROUBLE):
                await self._refresh_gate()
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
            asyncio.create_task(self._for_ever(self._refresh_gate, REFRESH_EVERY_SECONDS)),
            asyncio.create_task(self._for_ever(self._walk_keys, LOOK_EVERY_SECONDS)),
            asyncio.create_task(self._for_ever(self._sweep_up, SWEEP_UP_SECONDS)),
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
        flying: set[asyncio.Task[None]] = set()
        if self._draining:
            self._rung.set()
            tally["joined"] = 1
            await self._take_exits(tally, flying)
        else:
            await self._sweep(tally, flying)
        if flying:
            await asyncio.wait(flying)
        return tally

    async def _sweep(self, tally: Tally, flying: set[asyncio.Task[None]]) -> None:
        self._draining = True
        try:
            while not self.closed:
                self._rung.clear()
                taken = await self._intake.take_due(0.0, tally, flying)
                if taken or self._rung.is_set():
                    continue
                if not (self._intake.more and flying):
                    break
                # What is left is kept back by limits that these very attempts hold; but they may
                # last, and a ring may be for somebody else.
                ring = asyncio.create_task(self._rung.wait())
                await asyncio.wait({*flying, ring}, return_when=asyncio.FIRST_COMPLETED)
                ring.cancel()
        finally:
            self._draining = False

    async def _take_exits(self, tally: Tally, flying: set[asyncio.Task[None]]) -> None:
        """Send exits in the places reserved for them, while all others are taken."""
        while not self.closed and self._window.crowded:
            if not await self._intake.take_due(0.0, tally, flying, high_only=True):
                return

    def look(self, after_seconds: float) -> None:
        """Look again at what is due after so long, or sooner where that was asked for already.

        Called by whoever has removed a hindrance, and where only time does. A sweep under way
        looks once more before it ends.
        """
        if self._stopping:
            return
        if after_seconds <= 0:
            if self._draining:
                self._rung.set()
            elif not self._sweep_asked:
                self._sweep_asked = True
                self._intake.spawn(self._sweep_again())
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + after_seconds
        if self._next_look is not None and self._next_look.when() > loop.time():
            if self._next_look.when() <= when:
                return
            self._next_look.cancel()
        self._next_look = loop.call_at(when, self.look, 0.0)

    async def _sweep_again(self) -> None:
        self._sweep_asked = False
        tally = Tally()
        if self._draining:
            self._rung.set()
            await self._take_exits(tally, set())
        else:
            await self._sweep(tally, set())

    async def _rescue(self) -> None:
        """Take what has been due for 2 s, whatever became of its message."""
        tally = Tally()
        await self._take_exits(tally, set())
        while not self.closed and await self._intake.take_due(OVERDUE_SECONDS, tally, set()):
            pass

    async def _refresh_gate(self) -> None:
        """Learn what is paused; let go what is not any more."""
        asked_at = self._lease.steady
        standing = await self._outbox.read_standing()
        fewer = self._dispatcher.gate.refreshed(standing.pauses, asked_at=asked_at)
        if fewer or standing.probing:
            self.look(0.0)
        if fewer or self._unparking:
            self._unparking = await self._outbox.unpark() > 0
            if self._unparking:
                self.look(0.0)

    async def _walk_keys(self) -> None:
        """The net under the order: find what is held for no reason, some keys at a time."""
        step = await self._outbox.find_stuck(self._walk)
        self._walk = step.after
        if step.stuck:
            logger.error("%d ordering keys waited for nobody; they go on", step.stuck)
            self.look(0.0)

    async def _sweep_up(self) -> None:
        """The nets under resume and supersede, and the alerts of breakers that stay open."""
        self._unparking = True
        if await self._outbox.let_stuck_go():
            self.look(0.0)
        alerts = await self._outbox.tell_long_open()
        if alerts:
            self._announce_alerts(alerts)

    async def _expire(self) -> None:
        while not self._stopping and self._lease.fresh:
            expired = await self._outbox.expire_pending(limit=EXPIRE_AT_ONCE)
            if expired:
                logger.warning("%d deliveries expired before an attempt", len(expired))
                self._announce_alerts([item.alert_id for item in expired])
                self.look(0.0)
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

    # The end.

    def begin_shutdown(self) -> None:
        """Claim nothing more; give what is in flight until the deadline."""
        if self._stopping:
            return
        self._stopping = True
        if self._next_look is not None:
            self._next_look.cancel()
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
