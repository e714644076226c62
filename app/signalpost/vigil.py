"""Liveness: renew one's own row, stop sending when that fails, end what others lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from signalpost.clock import RENEW_EVERY_SECONDS, SILENCE_SECONDS, Lease
from signalpost.core.outcomes import Failure
from signalpost.database import DATABASE_TROUBLE
from signalpost.dispatch import Dispatcher, subject_of
from signalpost.errors import RecordHeld
from signalpost.logs import place
from signalpost.outbox import Outbox
from signalpost.reports import Report
from signalpost.repository.claimed import Claim
from signalpost.repository.recorded import Record

logger = logging.getLogger(__name__)

RENEW_AGAIN_SECONDS = 0.5
LAPSE_LOOK_SECONDS = 0.25


class Vigil:
    """Keeps one worker's lease, and its eye on the claims of the silent."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        lease: Lease,
        dispatcher: Dispatcher,
        heard: Callable[[Report], None],
        back: Callable[[], None],
    ) -> None:
        """``heard``: of each claim ended as lost; ``back``: a lease that had lapsed holds again."""
        self._heard = heard
        self._back = back
        self._outbox = outbox
        self._lease = lease
        self._dispatcher = dispatcher
        self._suspects: dict[UUID, int] = {}
        self._away = False

    async def keep_renewing(self) -> None:
        """Renew every 2 s, for ever."""
        while True:
            renewed = await self.renew()
            await asyncio.sleep(RENEW_EVERY_SECONDS if renewed else RENEW_AGAIN_SECONDS)

    async def renew(self) -> bool:
        """Renew once; say whether it worked."""
        try:
            return await self._renew()
        except Exception as error:  # noqa: BLE001 - renewing that ends would end the sending
            logger.error(
                "cannot renew, an unforeseen error, please report it error=%s place=%s",
                type(error).__name__,
                place(error),
            )
            return False

    async def _renew(self) -> bool:
        sent_at = self._lease.steady
        try:
            database_now = await self._outbox.renew()
        except DATABASE_TROUBLE as trouble:
            if not self._away:
                logger.warning("cannot renew, the database is away: %s", type(trouble).__name__)
            self._away = True
            return False
        if self._away:
            logger.warning("the database is back")
        lapsed = self._lease.renewed_seconds_ago is not None and not self._lease.fresh
        missed, self._away = self._away or lapsed, False
        self._lease.renewed(sent_at=sent_at, database_now=database_now)
        if missed and self._lease.fresh:
            # Messages that came meanwhile are used up, and nothing was claimed for them.
            self._back()
        return True

    async def cut_lapsed(self) -> None:
        """Cut what is not completely written if the lease has lapsed.

        A request that is completely written is let finish; its answer is late news at worst.
        """
        if self._dispatcher.flights and not self._lease.fresh:
            for flight in list(self._dispatcher.flights.values()):
                if not flight.progress.written:
                    flight.abort(Failure.LEASE)

    async def take_back(self) -> None:
        """End the claims of the silent, where this worker may judge others."""
        if not self._lease.may_take_back:
            return
        judged: dict[UUID, tuple[Claim, Record]] = {}

        def judge(claim: Claim) -> Record:
            item = self._dispatcher.judge_lost(claim)
            judged[claim.claim_id] = (claim, item)
            return item

        taken = await self._outbox.take_back(judge, silence_seconds=SILENCE_SECONDS)
        for claim_id, recorded in taken.items():
            self._heard(self._dispatcher.tell(*judged[claim_id], recorded))

    async def warn_of_clock(self) -> None:
        """Tell the operator while this machine's clock is too far off to send anything."""
        if not self._lease.fresh or self._lease.clock_ok:
            return
        off = f"{self._lease.clock_off_seconds:.1f}"
        logger.error("this machine's clock is %s s off the database's: nothing is sent", off)
        name = self._outbox.worker_name
        await self._outbox.raise_notice(
            "clock_off", subject=name, details={"worker": name, "seconds": off}
        )

    async def end_unheld_claims(self) -> None:
        """End claims under this worker's id that nobody here attempts: their answer was lost.

        A claim whose statement is still under way is not attempted yet either. So a claim is only a
        suspect at first; it is lost if a later look, with every statement ended that was open or
        begun at the first, still finds it unheld.
        """
        if not self._lease.fresh:
            return
        own = await self._outbox.own_claims()
        unheld = [claim for claim in own if not self._dispatcher.attempts(claim)]
        lost = [
            claim
            for claim in unheld
            if claim.claim_id in self._suspects
            and self._outbox.all_claims_ended_before(self._suspects[claim.claim_id])
        ]
        begun = self._outbox.claims_begun
        self._suspects = {
            claim.claim_id: self._suspects.get(claim.claim_id, begun) for claim in unheld
        }
        if lost:
            logger.warning("%d claims of this worker were never answered: ended as lost", len(lost))
            for claim in lost:
                self._dispatcher.forget(claim)
            judged = [self._dispatcher.judge_lost(claim) for claim in lost]
            results = await self._outbox.record(judged)
            for claim, item, ended in zip(lost, judged, results, strict=True):
                if isinstance(ended, RecordHeld):
                    continue
                if isinstance(ended, Exception):
                    about = subject_of(claim)
                    logger.error(
                        "a lost claim cannot be ended %s error=%s",
                        " ".join(f"{name}={value}" for name, value in about.items()),
                        type(ended).__name__,
                        extra={"facts": about},
                    )
                else:
                    self._heard(self._dispatcher.tell(claim, item, ended))
