"""Claims by name: of deliveries whose message or timer has come, in groups, within the shares."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from uuid import UUID

from signalpost import reports
from signalpost.clock import Lease
from signalpost.core.shares import Room
from signalpost.database import DATABASE_TROUBLE
from signalpost.flight import Flight
from signalpost.grouping import Grouped
from signalpost.holding import Holder
from signalpost.logs import speak_of
from signalpost.outbox import Outbox
from signalpost.reports import Report
from signalpost.repository.claimed import Claim, Unclaimed

logger = logging.getLogger(__name__)

NAMED_AT_ONCE = 16


class Asking:
    """Claims named deliveries; what comes while a claim is under way shares the next one.

    Args:
        outbox, holder, lease: as the intake's.
        room: the places there are, so many of them taken by those who ask.
        taken: told of each claim, in the very step in which its statement returned.
        closed: says why nothing may be claimed now, or nothing.
        look: asks for a look at what is due, after so many seconds.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        holder: Holder,
        lease: Lease,
        room: Callable[[int], Room],
        taken: Callable[[Claim], None] = lambda _: None,
        closed: Callable[[], str],
        look: Callable[[float], None],
    ) -> None:
        self._outbox = outbox
        self._holder = holder
        self._lease = lease
        self._room = room
        self._taken = taken
        self._closed = closed
        self._look = look
        self._claims: Grouped[UUID, Flight | Report] = Grouped(
            self._claim, key=lambda delivery_id: delivery_id, most=NAMED_AT_ONCE
        )

    async def ask(self, delivery_id: UUID) -> Flight | Report:
        """Claim one delivery, or say why it could not be claimed."""
        closed = self._closed()
        if closed:
            return Report(delivery_id, "not_claimed", closed)
        try:
            return await self._claims.put(delivery_id)
        except DATABASE_TROUBLE as trouble:
            speak_of(delivery=delivery_id)
            logger.warning("claiming failed: %s", type(trouble).__name__)
            return _away(delivery_id)

    async def _claim(self, delivery_ids: Sequence[UUID]) -> list[Flight | Report]:
        # Nobody knows yet whose they are, so only so many go at once as anyone may still have.
        found: dict[UUID, Flight | Report] = {}
        left = list(delivery_ids)
        held = False
        while left and not self._closed() and (room := self._room(len(left))).free:
            together = room.together(len(left))
            group, left = left[: together.most], left[together.most :]
            epoch, sent_at = self._lease.epoch, self._lease.steady
            try:
                claimed = await self._outbox.claim_by_id(
                    group,
                    full=together.full,
                    full_high=together.full_high,
                    high_only=room.high_only,
                )
            except Exception as trouble:
                if not found:
                    raise
                # What an earlier statement has brought is claimed, and must be sent by its caller,
                # whatever became of this one.
                logger.warning("claiming failed: %s", type(trouble).__name__)
                found.update((one, _away(one)) for one in (*group, *left))
                left = []
                break
            for flight in self._holder.hold(claimed, epoch, sent_at):
                found[flight.claim.delivery_id] = flight
                self._taken(flight.claim)
            for expired in claimed.expired:
                found[expired.delivery_id] = reports.expired_report(expired)
            for unclaimed in claimed.unclaimed:
                found[unclaimed.delivery_id] = reports.unclaimed_report(unclaimed)
                held = held or unclaimed.held == "share"
        closed = self._closed()
        for delivery_id in left:
            found[delivery_id] = (
                Report(delivery_id, "not_claimed", closed)
                if closed
                else reports.unclaimed_report(Unclaimed(delivery_id, "pending", 0.0, "share"))
            )
        if left or held:
            # The window may still have places, and what ends makes others.
            self._look(0.0)
        return [found[delivery_id] for delivery_id in delivery_ids]


def _away(delivery_id: UUID) -> Report:
    return Report(delivery_id, "not_claimed", "the database is away")
