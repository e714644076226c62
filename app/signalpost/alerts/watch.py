"""The ops worker's watch: it looks every few seconds, and tells what begins and what is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost.core.alerting import ENDS
from signalpost.core.troubles import CALM_SECONDS, Patience, Trouble, compare
from signalpost.repository import expiring, notices, troubles, watching
from signalpost.repository.overview import overview
from signalpost.repository.reading import database_time

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
"""For one look; a database that stands still is a database that is away."""
SETTLE_SECONDS = 45.0
"""After a start, an outage of the database or a jump of its clock nobody is judged by its silence
for so long: by then whoever lives has renewed, and taken what was due."""
JUMP_SECONDS = 5.0
EXPIRE_AT_ONCE, EXPIRE_TIMES = 500, 10

PATIENCE = {"endpoint_trouble": 30.0, "redis_gone": 15.0}
"""For how long it must have been so in every look, in seconds; the others measure it themselves."""

_BY_SILENCE = frozenset({"worker_gone", "stalled"})


class Probe(Protocol):
    """Looks at something outside the database."""

    async def trouble(self) -> str | None:
        """What is wrong, as a label; None where nothing is."""
        ...


class Watch:
    """Looks at the outbox and at Redis; belongs to one event loop.

    Args:
        redis: looks at Redis; None where none is set.
        heartbeat_hours: how often to tell that all is well; 0 never.
        steady: seconds that only go forward.
        patience: by kind, for how long a trouble must have been found in every look.
        settle_seconds: for how long nobody is judged by silence.
        calm_seconds: how long a trouble must not have been found before it is told to be over.
    """

    def __init__(
        self,
        *,
        redis: Probe | None,
        steady: Callable[[], float],
        heartbeat_hours: int = 0,
        patience: dict[str, float] | None = None,
        settle_seconds: float = SETTLE_SECONDS,
        calm_seconds: float = CALM_SECONDS,
    ) -> None:
        self._redis = redis
        self._steady = steady
        self._heartbeat_hours = heartbeat_hours
        self._patience = Patience(PATIENCE if patience is None else patience)
        self._settle_seconds = settle_seconds
        self._calm_seconds = calm_seconds
        self._settled_since = steady()
        self._last: tuple[datetime, float] | None = None

    async def look(self, db: AsyncEngine) -> None:
        """Look once, and write what has changed, each change with its alert.

        Raises what a database raises that is away; the next look then starts to settle again.
        """
        redis = [] if self._redis is None else _redis_trouble(await self._redis.trouble())
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._expire(db)
                async with db.begin() as connection:
                    await connection.run_sync(self._keep_book, redis)
        except BaseException:
            self._settled_since, self._last = self._steady(), None
            raise

    async def _expire(self, db: AsyncEngine) -> None:
        # The engines do this every second. Where none is left, whoever waits for a signal's end
        # must hear of it all the same.
        # A bounded number in one look, for the look itself must come to its end.
        for _ in range(EXPIRE_TIMES):
            async with db.begin() as connection:
                expired = await connection.run_sync(expiring.expire_pending, limit=EXPIRE_AT_ONCE)
            if expired:
                logger.warning("%d deliveries expired before an attempt", len(expired))
            if len(expired) < EXPIRE_AT_ONCE:
                return

    def _keep_book(self, connection: Connection, redis: Sequence[Trouble]) -> None:
        now = database_time(connection)
        self._mind_the_clock(now)
        found = [*redis, *watching.endpoints_in_trouble(connection, now=now)]
        judged = set(ENDS) | {"endpoint_refuses"}
        if self._steady() - self._settled_since >= self._settle_seconds:
            found += [*watching.workers_gone(connection, now=now), *_stalled(connection, now)]
        else:
            judged -= _BY_SILENCE
        if self._redis is None:
            judged.discard("redis_gone")
        lasting = self._patience.lasting(found, now)
        if not troubles.try_lock(connection):
            return
        known = troubles.known_troubles(connection)
        changes = compare(
            known,
            lasting,
            well=watching.evidence_of_end(connection, known, now=now),
            judged=judged,
            now=now,
            calm_seconds=self._calm_seconds,
        )
        troubles.apply_changes(connection, changes, now=now)
        for trouble in changes.begun:
            logger.error("watch: kind=%s %s", trouble.kind, _words(trouble))
        for each in changes.over:
            logger.warning("watch: kind=%s %s", ENDS[each.trouble.kind], _words(each.trouble))
        self._tell_heartbeat(connection)

    def _mind_the_clock(self, now: datetime) -> None:
        steady = self._steady()
        if self._last is not None:
            then, at = self._last
            if abs((now - then).total_seconds() - (steady - at)) > JUMP_SECONDS:
                logger.warning(
                    "watch: the database's clock has jumped, or this process stood still"
                )
                self._settled_since = steady
        self._last = (now, steady)

    def _tell_heartbeat(self, connection: Connection) -> None:
        if not self._heartbeat_hours:
            return
        # Asked for with a little slack, so that it does not come later every day.
        quiet = timedelta(hours=self._heartbeat_hours, seconds=-30).total_seconds()
        if not notices.lately(connection, kind="heartbeat", seconds=quiet):
            seen = overview(connection)
            ended = {**seen.finished}
            details = {
                "in 24 h": ", ".join(f"{n} {status}" for status, n in ended.items() if n) or "none",
                "overdue": str(seen.overdue),
                "alerts unsent": str(seen.alerts_unsent),
                "workers alive": str(sum(worker.alive for worker in seen.workers)),
            }
            notices.raise_notice(connection, kind="heartbeat", details=details, quiet_seconds=quiet)


def _redis_trouble(reason: str | None) -> list[Trouble]:
    return [] if reason is None else [Trouble("redis_gone", details={"because": reason})]


def _stalled(connection: Connection, now: datetime) -> list[Trouble]:
    late = watching.overdue(connection, now=now)
    if late is None:
        return []
    more = " or more" if late.count >= watching.MOST else ""
    details = {
        "deliveries": f"{late.count}{more}",
        "oldest": f"due for {late.oldest_seconds:.0f} s",
    }
    return [Trouble("stalled", details=details)]


def _words(trouble: Trouble) -> str:
    pairs = {"endpoint": trouble.endpoint_id, "subject": trouble.name or None}
    known = [f"{name}={value}" for name, value in pairs.items() if value is not None]
    told = (f"{name.replace(' ', '_')}={value!r}" for name, value in trouble.details.items())
    return " ".join([*known, *told])
