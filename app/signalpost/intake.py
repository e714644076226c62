"""From a claim to its report: by id or whatever is due, within the window, alerts told."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from uuid import UUID

from signalpost import reports
from signalpost.clock import Lease
from signalpost.core.outcomes import Failure
from signalpost.core.shares import Room
from signalpost.database import DATABASE_TROUBLE
from signalpost.dispatch import Dispatcher, Flight
from signalpost.grouping import Grouped
from signalpost.holding import Holder
from signalpost.logs import Seldom, place, speak_of
from signalpost.outbox import Outbox
from signalpost.reports import Report, Tally
from signalpost.repository.claimed import Claim, Unclaimed
from signalpost.window import Threads, Window

logger = logging.getLogger(__name__)

CLAIMS_AT_ONCE = 100
NAMED_AT_ONCE = 16
EXITS_EVERY_SECONDS = 0.1
"""While no other place is free, what is due in the exit lane is looked for so often."""
THREADS = 64


class Intake:
    """Claims deliveries and sees each one through to its record.

    ``look`` asks for another look at what is due, after so many seconds. ``threads``: how many
    callers may wait for an attempt at once. ``closed`` says why nothing may be claimed now, or
    nothing; ``again`` takes reports of what shall be tried again by this process.
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
        self._announce_alerts = announce_alerts
        self._claims: Grouped[UUID, Flight | Report] = Grouped(
            self._claim_group, key=lambda delivery_id: delivery_id, most=NAMED_AT_ONCE
        )
        self._timed: Grouped[UUID, Flight | Report] = Grouped(
            self._claim_timed, key=lambda delivery_id: delivery_id, most=NAMED_AT_ONCE
        )
        self._look = look
        self._threads = Threads(threads)
        self._seldom = Seldom()
        self.more = False
        """Whether the last look may have left something due, for limits that attempts hold."""
        self._holder = holder

    async def take_one(self, delivery_id: UUID) -> Report:
        """Make one attempt of one delivery, if it can be claimed; the caller sees to its retry."""
        found = await self._claim_one(self._claims, delivery_id)
        if isinstance(found, Report):
            return found
        try:
            report = await self._dispatcher.attempt(found)
        finally:
            self._threads.give_back(found.claim)
        self._tell(report)
        return report

    async def _claim_one(
        self, claims: Grouped[UUID, Flight | Report], delivery_id: UUID
    ) -> Flight | Report:
        closed = self._closed()
        if closed:
            return Report(delivery_id, "not_claimed", closed)
        try:
            return await claims.put(delivery_id)
        except DATABASE_TROUBLE as trouble:
            speak_of(delivery=delivery_id)
            logger.warning("claiming failed: %s", type(trouble).__name__)
            return Report(delivery_id, "not_claimed", "the database is away")

    def take_one_soon(self, delivery_id: UUID) -> None:
        """The same within the window and in the background, its retry seen to."""
        self._holder.spawn(self._take_one_in_window(delivery_id))

    async def take_due(
        self,
        overdue_seconds: float,
        tally: Tally,
        flying: set[asyncio.Task[None]],
        *,
        high_only: bool = False,
    ) -> int:
        """Claim as much of what is due as the window has places for, and send it.

        Args:
            overdue_seconds: only what has been due for this long.
            tally: what became of each is added to it, as attempts end.
            flying: the attempts under way, each taken out at its end.
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
        used = 0
        try:
            if self._closed() or not places:
                return 0
            epoch, sent_at = self._lease.epoch, self._lease.steady
            ended = self._dispatcher.ended
            claimed = await self._outbox.claim_due(
                limit=places,
                overdue_seconds=overdue_seconds,
                room=self._room(places),
                high_only=high_only,
            )
            flights = self._holder.hold(claimed, epoch, sent_at)
            used = len(flights)
            self.more = claimed.more
            if self.more and self._dispatcher.ended != ended:
                # What ended during the claim made room that it did not know of, and told nobody.
                self._look(0.0)
            self._seldom.over()
        except DATABASE_TROUBLE as trouble:
            if self._seldom.lets(self._lease.steady):
                logger.warning("claiming failed: %s", type(trouble).__name__)
            return 0
        finally:
            self._window.give_back(places - used)
        for flight in flights:
            task = self._holder.spawn(self._fly(flight, tally))
            flying.add(task)
            task.add_done_callback(flying.discard)
        for expired in claimed.expired:
            tally.add(reports.expired_report(expired))
        return used + len(claimed.expired) + claimed.parked

    def _room(self, places: int) -> Room:
        flights: Counter[int] = Counter()
        high: Counter[int] = Counter()
        for flight in self._dispatcher.flights.values():
            flights[flight.claim.endpoint_id] += 1
            if flight.claim.priority:
                high[flight.claim.endpoint_id] += 1
        free = self._window.free + places
        return Room(free, self._window.reserved, flights, high)

    async def _claim_group(self, delivery_ids: Sequence[UUID]) -> list[Flight | Report]:
        """Claim for callers that wait for their attempts, each in a thread."""
        return await self._claim_named(
            delivery_ids, lambda _: self._threads.room, self._threads.take
        )

    async def _claim_timed(self, delivery_ids: Sequence[UUID]) -> list[Flight | Report]:
        """Claim for timers, each of which has taken a place of the window."""
        return await self._claim_named(delivery_ids, self._room)

    async def _claim_named(
        self,
        delivery_ids: Sequence[UUID],
        room: Callable[[int], Room],
        taken: Callable[[Claim], None] = lambda _: None,
    ) -> list[Flight | Report]:
        # Nobody knows yet whose they are, so only so many go at once as anyone may still have.
        found: dict[UUID, Flight | Report] = {}
        left = list(delivery_ids)
        while left and (most := (now := room(len(left))).together):
            group, left = left[:most], left[most:]
            epoch, sent_at = self._lease.epoch, self._lease.steady
            claimed = await self._outbox.claim_by_id(
                group, full=now.full, full_high=now.full_high, high_only=now.high_only
            )
            for flight in self._holder.hold(claimed, epoch, sent_at):
                found[flight.claim.delivery_id] = flight
                taken(flight.claim)
            for expired in claimed.expired:
                found[expired.delivery_id] = reports.expired_report(expired)
            for unclaimed in claimed.unclaimed:
                found[unclaimed.delivery_id] = reports.unclaimed_report(unclaimed)
                self.more = self.more or unclaimed.held == "share"
        for delivery_id in left:
            found[delivery_id] = reports.unclaimed_report(
                Unclaimed(delivery_id, "pending", 0.0, "share")
            )
            self.more = True
        if self.more:
            # The window may still have places, and what ends makes others.
            self._look(0.0)
        return [found[delivery_id] for delivery_id in delivery_ids]

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

    async def _take_one_in_window(self, delivery_id: UUID) -> None:
        if self._window.crowded:
            # It may be an exit, for which a look finds a place.
            self._look(0.0)
        await self._window.take(1)
        try:
            found = await self._claim_one(self._timed, delivery_id)
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

    @staticmethod
    def _lament(refusal: Exception) -> None:
        logger.error("attempt not recorded: %s at %s", type(refusal).__name__, place(refusal))

    def _tell(self, report: Report) -> None:
        alerts = [*report.notices, *([] if report.alert_id is None else [report.alert_id])]
        if alerts:
            self._announce_alerts(alerts)
        if self.more or report.makes_room:
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
