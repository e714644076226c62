"""From a claim to its report: by id or whatever is due, within the window, alerts told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from uuid import UUID

from signalpost import reports
from signalpost.asking import Asking
from signalpost.clock import Lease
from signalpost.core.outcomes import Failure
from signalpost.core.shares import Room
from signalpost.database import DATABASE_TROUBLE, is_lock_timeout
from signalpost.dispatch import Dispatcher
from signalpost.flight import Flight
from signalpost.holding import Holder
from signalpost.leftovers import Leftovers
from signalpost.logs import Seldom, place
from signalpost.outbox import Outbox
from signalpost.reports import Report, Tally
from signalpost.window import Flying, Threads, Window

logger = logging.getLogger(__name__)

CLAIMS_AT_ONCE = 100
EXITS_EVERY_SECONDS = 0.1
"""While no other place is free, what is due in the exit lane is looked for so often."""
LOCKED_SECONDS = 0.1
TROUBLE_SECONDS = 0.5
"""After a claim that failed, what is due is looked for again so soon, while the lease holds."""
THREADS = 64


class Intake:
    """Claims deliveries and sees each one through to its record.

    ``look`` asks for another look at what is due, after so many seconds. ``threads``: how many
    callers may wait for an attempt at once. ``closed`` says why nothing may be claimed now, or
    nothing; ``again`` takes reports of what shall be tried again by this process, ``taken`` the
    deliveries that a look has taken, which nothing needs to remind of any more.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        dispatcher: Dispatcher,
        holder: Holder,
        lease: Lease,
        window: Window,
        closed: Callable[[], str],
        again: Callable[[Report], None],
        taken: Callable[[UUID], None],
        announce_alerts: Callable[[Sequence[int]], None],
        look: Callable[[float], None],
        threads: int = THREADS,
    ) -> None:
        self._outbox = outbox
        self._dispatcher = dispatcher
        self._lease = lease
        self._window = window
        self._closed = closed
        self._again = again
        self._taken = taken
        self._announce_alerts = announce_alerts
        self._look = look
        self._threads = Threads(threads)
        # For callers that wait for their attempts, each in a thread; and for timers, each of
        # which has taken a place of the window.
        self._in_threads = Asking(
            outbox=outbox,
            holder=holder,
            lease=lease,
            room=lambda _: self._threads.room,
            taken=self._threads.take,
            closed=closed,
            look=look,
        )
        self._in_window = Asking(
            outbox=outbox, holder=holder, lease=lease, room=self._room, closed=closed, look=look
        )
        self._seldom = Seldom()
        self.left = Leftovers(loads=dispatcher.loads, window=window, look=look)
        self._holder = holder

    async def take_one(self, delivery_id: UUID) -> Report:
        """Make one attempt of one delivery, if it can be claimed; the caller sees to its retry."""
        found = await self._in_threads.ask(delivery_id)
        if isinstance(found, Report):
            return found
        try:
            report = await self._dispatcher.attempt(found)
        finally:
            self._threads.give_back(found.claim)
            self.left.see_room()
        self._tell(report)
        return report

    def take_one_soon(self, delivery_id: UUID) -> None:
        """The same within the window and in the background, its retry seen to."""
        self._holder.spawn(self._take_one_in_window(delivery_id))

    async def take_due(
        self,
        overdue_seconds: float,
        tally: Tally,
        flying: Flying,
        *,
        high_only: bool = False,
    ) -> int:
        """Claim as much of what is due as the window has places for, and send it.

        Args:
            overdue_seconds: only what has been due for this long.
            tally: what became of each is added to it, as attempts end.
            flying: the attempts under way; those that this begins are added.
            high_only: the exit lane alone, in the places that are reserved for it, at once.

        Returns:
            How many deliveries were taken; 0 where nothing is due, or nothing may be claimed.
        """
        if high_only:
            places = self._window.take_reserved(CLAIMS_AT_ONCE)
        else:
            while not (places := await self._window.take(CLAIMS_AT_ONCE, EXITS_EVERY_SECONDS)):
                # Whatever became of its message, an exit does not wait for a place with the others.
                await self.take_due(0.0, tally, flying, high_only=True)
        used, answered = 0, False
        try:
            if self._closed() or not places:
                return 0
            epoch, sent_at = self._lease.epoch, self._lease.steady
            claimed = await self._outbox.claim_due(
                limit=places,
                overdue_seconds=overdue_seconds,
                room=self._room(places),
                high_only=high_only,
            )
            flights = self._holder.hold(claimed, epoch, sent_at)
            used = len(flights)
            for flight in flights:
                self._taken(flight.claim.delivery_id)
            self.left.remember(claimed, whole=not high_only and not overdue_seconds)
            answered = True
            self._seldom.over()
        except DATABASE_TROUBLE as trouble:
            # The ring that this was for is used up, and the rescue would come late. A lock is
            # somebody's who holds what changed under the claim, mostly for a moment.
            self._look(LOCKED_SECONDS if is_lock_timeout(trouble) else TROUBLE_SECONDS)
            if self._seldom.lets(self._lease.steady):
                logger.warning("claiming failed: %s", type(trouble).__name__)
            return 0
        finally:
            self._window.give_back(places - used)
            if answered:
                # What ended during the claim made room that it did not know of.
                self.left.see_room()
        for flight in flights:
            flying.add(self._holder.spawn(self._fly(flight, tally)))
        for expired in claimed.expired:
            tally.add(reports.expired_report(expired))
        return used + len(claimed.expired) + claimed.parked

    def _room(self, places: int) -> Room:
        loads = self._dispatcher.loads
        free = self._window.free + places
        # Copied: a claim works with one moment's numbers from its beginning to its end.
        return Room(free, self._window.reserved, dict(loads.flights), dict(loads.high))

    async def _fly(self, flight: Flight, tally: Tally) -> None:
        try:
            report = await self._dispatcher.attempt(flight)
            tally.add(report)
            self._tell(report)
            self._again(report)
        except Exception as refusal:  # noqa: BLE001 - whatever it is
            # The claim stays open in the database and is soon ended as lost; nothing is forgotten.
            self._lament(refusal)
            tally["not_recorded"] += 1
        finally:
            self._window.give_back(1)
            self.left.see_room()

    async def _take_one_in_window(self, delivery_id: UUID) -> None:
        if self._window.crowded:
            # It may be an exit, for which a look finds a place.
            self._look(0.0)
        await self._window.take(1)
        try:
            found = await self._in_window.ask(delivery_id)
            if isinstance(found, Flight):
                report = await self._dispatcher.attempt(found)
                self._tell(report)
            else:
                report = found
            self._again(report)
        except Exception as refusal:  # noqa: BLE001 - as above
            self._lament(refusal)
        finally:
            self._window.give_back(1)
            self.left.see_room()

    @staticmethod
    def _lament(refusal: Exception) -> None:
        logger.error("attempt not recorded: %s at %s", type(refusal).__name__, place(refusal))

    def _tell(self, report: Report) -> None:
        if report.alert_ids:
            self._announce_alerts(report.alert_ids)
        # An endpoint's limit may be younger than the claim of this attempt.
        if report.makes_room or report.endpoint_id in self.left.kept.governed:
            self._look(0.0)
        if report.detail == Failure.SECRET:
            self._holder.spawn(self._tell_unreadable(report))

    async def _tell_unreadable(self, report: Report) -> None:
        try:
            await self._outbox.raise_notice(
                "secret_unreadable",
                endpoint_id=report.endpoint_id,
                details={"endpoint": report.endpoint},
            )
        except DATABASE_TROUBLE as trouble:
            logger.warning("notice not written: %s", type(trouble).__name__)
