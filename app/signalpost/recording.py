"""Recording whatever it takes: outages are waited out, what is held or refused is set apart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from signalpost.core.outcomes import Failure
from signalpost.database import DATABASE_TROUBLE, is_lock_timeout
from signalpost.errors import RecordHeld
from signalpost.repository import records
from signalpost.repository.recorded import Record, Recorded

logger = logging.getLogger(__name__)

BARE = "the record was refused"
"""The detail of an attempt of which only the decision could be recorded."""

_REFUSALS = (DataError, IntegrityError, ProgrammingError)

Result = TypeVar("Result")


class Commit(Protocol):
    """Does some work on a connection and commits it."""

    def __call__(self, work: Callable[[Connection], Result], /) -> Awaitable[Result]:
        """Return what the work returned, once it is committed."""
        ...


class Recorder:
    """Records groups of attempts, each in as few transactions as it can."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit

    async def record(self, group: Sequence[Record]) -> list[Recorded | Exception | None]:
        """Record a group, whatever it takes: outages are waited out, a refused row is isolated.

        A record is safe to repeat, so a connection lost during the commit is simply done again.
        A result of None: the delivery no longer exists. A RecordHeld: somebody's open transaction
        holds it, so it is to be recorded later. Another exception: this one is refused even bare;
        its claim stays open. The others are recorded all the same.
        """
        try:
            written = await self._record_through_outages(group)
        except RecordHeld:
            return await self._record_unheld(group)
        except Exception as refusal:  # noqa: BLE001 - what is no outage is one row's fault
            return await self._record_bisected(group, refusal)
        return [written.get(item.claim_id) for item in group]

    async def _record_through_outages(self, group: Sequence[Record]) -> dict[UUID, Recorded]:
        wait = 0.1
        while True:
            try:
                return await self._commit(lambda c: records.record(c, group))
            except _REFUSALS:
                raise
            except DATABASE_TROUBLE as trouble:
                if is_lock_timeout(trouble):
                    raise RecordHeld from None
                logger.warning(
                    "database away, %d attempts wait to be recorded: %s",
                    len(group),
                    type(trouble).__name__,
                )
                await asyncio.sleep(wait)
                wait = min(wait * 2, 2.0)

    async def _record_unheld(self, group: Sequence[Record]) -> list[Recorded | Exception | None]:
        def work(connection: Connection) -> tuple[set[UUID], dict[UUID, Recorded]]:
            free = records.unheld(connection, group)
            return {item.claim_id for item in free}, records.record(connection, free)

        try:
            free, written = await self._commit(work)
        except Exception as trouble:  # noqa: BLE001 - sorted out below
            refused = not isinstance(trouble, DATABASE_TROUBLE) or isinstance(trouble, _REFUSALS)
            if len(group) > 1 and (refused or is_lock_timeout(trouble)):
                middle = len(group) // 2
                first = await self._record_unheld(group[:middle])
                return [*first, *await self._record_unheld(group[middle:])]
            if refused:
                return await self._record_bisected(group, trouble)
            return [RecordHeld() for _ in group]
        return [
            written.get(item.claim_id) if item.claim_id in free else RecordHeld() for item in group
        ]

    async def _record_bisected(
        self, group: Sequence[Record], refusal: Exception
    ) -> list[Recorded | Exception | None]:
        if len(group) > 1:
            middle = len(group) // 2
            return [*await self.record(group[:middle]), *await self.record(group[middle:])]
        item = group[0]
        if item.answer.detail == BARE:
            return [refusal]
        logger.error(
            "the database refused the record of attempt=%d delivery=%s (%s); recording it bare",
            item.attempt,
            item.delivery_id,
            type(refusal).__name__,
            extra={"facts": {"delivery": item.delivery_id, "attempt": item.attempt}},
        )
        bare = replace(item.answer, failure=Failure.INTERNAL, detail=BARE, excerpt=b"")
        return await self.record([replace(item, answer=bare)])
