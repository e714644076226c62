"""The outbox as an engine sees it: claims and records over async connections, surviving outages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost.core.shares import Room
from signalpost.database import is_lock_timeout
from signalpost.recording import Recorder
from signalpost.repository import (
    breakers,
    claims,
    expiring,
    liveness,
    naming,
    notices,
    pauses,
    placing,
    records,
    superseding,
    walking,
)
from signalpost.repository.claimed import Claim, Claimed, Expired
from signalpost.repository.keys import Key
from signalpost.repository.pauses import Standing
from signalpost.repository.placing import Placed
from signalpost.repository.recorded import Record, Recorded
from signalpost.repository.walking import Step

logger = logging.getLogger(__name__)

STATEMENT_SECONDS = 30.0
RENEWAL_SECONDS = 5.0
TAKE_BACK_AT_ONCE = 500
PLACED_AT_ONCE = 500
WALKED_AT_ONCE = 500
UNPARKED_AT_ONCE = 250
"""Four times a second: what a resumed producer or instrument lets out per process."""

Result = TypeVar("Result")


class Outbox:
    """One worker's access to the outbox; every call is one transaction, committed or only read."""

    def __init__(self, database: AsyncEngine, *, worker_id: UUID, worker_name: str) -> None:
        self._database = database
        # One round trip instead of three, for what is read again and again, for ever.
        self._asking = database.execution_options(isolation_level="AUTOCOMMIT")
        self.worker_id = worker_id
        self.worker_name = worker_name
        self._recorder = Recorder(self._commit)
        self._claims_begun = 0
        self._claims_open: set[int] = set()

    async def _commit(
        self, work: Callable[[Connection], Result], *, seconds: float = STATEMENT_SECONDS
    ) -> Result:
        async with asyncio.timeout(seconds), self._database.begin() as connection:
            return await connection.run_sync(work)

    async def _ask(
        self, work: Callable[[Connection], Result], *, seconds: float = STATEMENT_SECONDS
    ) -> Result:
        """For reading by a single statement, a transaction in itself.

        It runs at whatever isolation the server has by default, which one SELECT does not care
        about.
        """
        async with asyncio.timeout(seconds), self._asking.connect() as connection:
            return await connection.run_sync(work)

    async def claim_due(
        self,
        *,
        limit: int,
        overdue_seconds: float,
        room: Room | None = None,
        high_only: bool = False,
    ) -> Claimed:
        """Claim due deliveries; see :func:`signalpost.repository.claims.claim_due`."""
        return await self._claim(
            lambda connection: claims.claim_due(
                connection,
                worker_id=self.worker_id,
                limit=limit,
                overdue_seconds=overdue_seconds,
                room=room,
                high_only=high_only,
            )
        )

    async def claim_by_id(
        self,
        delivery_ids: Sequence[UUID],
        *,
        full: Sequence[int] = (),
        full_high: Sequence[int] = (),
        high_only: bool = False,
    ) -> Claimed:
        """Claim the named deliveries; see :func:`signalpost.repository.naming.claim_by_id`."""
        return await self._claim(
            lambda connection: naming.claim_by_id(
                connection,
                delivery_ids,
                worker_id=self.worker_id,
                full=full,
                full_high=full_high,
                high_only=high_only,
            )
        )

    async def place_new(self) -> Placed:
        """Give new deliveries of ordered endpoints their places."""
        return await self._commit(lambda c: placing.place_new(c, limit=PLACED_AT_ONCE))

    async def find_stuck(self, after: Key) -> Step:
        """Look whether a key waits for nobody; see walking.py."""
        return await self._commit(
            lambda c: walking.find_stuck(c, after=after, limit=WALKED_AT_ONCE)
        )

    async def let_stuck_go(self) -> bool:
        """Let go what waits for the end of something that has ended; whether there was any."""
        return await self._commit(lambda c: bool(superseding.let_stuck_go(c, limit=WALKED_AT_ONCE)))

    async def read_standing(self) -> Standing:
        """Read what is paused."""
        return await self._ask(pauses.read_standing, seconds=RENEWAL_SECONDS)

    async def unpark(self) -> int:
        """Take back some of what a pause had put aside; return how many."""
        return await self._commit(lambda c: pauses.unpark(c, limit=UNPARKED_AT_ONCE))

    async def tell_long_open(self) -> list[int]:
        """Raise alerts for breakers that have been open for long."""
        return await self._commit(breakers.tell_long_open)

    async def _claim(self, work: Callable[[Connection], Claimed]) -> Claimed:
        number = self._claims_begun
        self._claims_begun += 1
        self._claims_open.add(number)
        try:
            return await self._commit(work)
        except DBAPIError as trouble:
            if not is_lock_timeout(trouble):
                raise
            # Something changed under it (see looking.py); a new look passes over what is locked.
            return await self._commit(work)
        finally:
            self._claims_open.discard(number)

    @property
    def claims_begun(self) -> int:
        """How many claim statements were begun so far."""
        return self._claims_begun

    @property
    def claiming(self) -> bool:
        """Whether a claim statement is under way."""
        return bool(self._claims_open)

    def all_claims_ended_before(self, number: int) -> bool:
        """Whether every claim statement begun before the ``number``-th has ended."""
        return min(self._claims_open, default=number) >= number

    async def expire_pending(self, *, limit: int) -> list[Expired]:
        """End pending deliveries past their expiry."""
        return await self._commit(lambda c: expiring.expire_pending(c, limit=limit))

    async def own_claims(self) -> list[Claim]:
        """List the claims that the database thinks this worker holds."""
        return await self._ask(
            lambda c: claims.claims_of(c, [self.worker_id], limit=TAKE_BACK_AT_ONCE)
        )

    async def renew(self) -> datetime:
        """Renew this worker's row; return database time."""
        return await self._commit(
            lambda c: liveness.renew(c, worker_id=self.worker_id, name=self.worker_name),
            seconds=RENEWAL_SECONDS,
        )

    async def stop(self) -> None:
        """Mark this worker as ended in good order."""
        await self._commit(lambda c: liveness.stop(c, self.worker_id), seconds=RENEWAL_SECONDS)

    async def raise_notice(
        self,
        kind: str,
        *,
        endpoint_id: int | None = None,
        subject: str = "",
        details: Mapping[str, str],
    ) -> int | None:
        """Write a notice for the operator, unless the same one is open or was raised lately."""
        return await self._commit(
            lambda c: notices.raise_notice(
                c, kind=kind, endpoint_id=endpoint_id, subject=subject, details=details
            )
        )

    async def take_back(
        self, judge: Callable[[Claim], Record], *, silence_seconds: float
    ) -> dict[UUID, Recorded]:
        """End the claims of silent workers as lost, in one transaction with the finding.

        Returns what became of each, by claim id.
        """

        def work(connection: Connection) -> dict[UUID, Recorded]:
            silent = liveness.silent_workers(
                connection, own_id=self.worker_id, silence_seconds=silence_seconds
            )
            if not silent:
                return {}
            lost = claims.claims_of(connection, silent, limit=TAKE_BACK_AT_ONCE)
            logger.warning("taking back %d claims of %d silent workers", len(lost), len(silent))
            free = records.unheld(connection, [judge(claim) for claim in lost])
            return records.record(connection, free)

        return await self._commit(work)

    async def record(self, group: Sequence[Record]) -> list[Recorded | Exception | None]:
        """Record a group, whatever it takes; see :mod:`signalpost.recording`."""
        return await self._recorder.record(group)
