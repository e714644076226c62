"""What the ops worker does again and again beside sending: watching, and letting the heart beat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost.alerts.heart import BEAT_SECONDS, Heart
from signalpost.alerts.redis_probe import RedisProbe
from signalpost.alerts.watch import Watch
from signalpost.clock import steady_seconds
from signalpost.logs import place
from signalpost.settings import Settings

__all__ = ["Round", "no_rounds", "repeat", "rounds_for"]

logger = logging.getLogger(__name__)

WATCH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Round:
    """One thing that is done every so many seconds, for ever."""

    name: str
    every_seconds: float
    go: Callable[[AsyncEngine], Awaitable[object]]


@asynccontextmanager
async def rounds_for(settings: Settings) -> AsyncIterator[Sequence[Round]]:
    """The rounds that the settings ask for, and what they need, for as long as the block lasts."""
    async with AsyncExitStack() as ending:
        redis = None
        if settings.redis_url is not None:
            redis = RedisProbe(settings.redis_url)
            ending.push_async_callback(redis.aclose)
        watch = Watch(
            redis=redis, steady=steady_seconds, heartbeat_hours=settings.alert_heartbeat_hours
        )
        rounds = [Round("watch", WATCH_SECONDS, watch.look)]
        if settings.heartbeat_url is not None:
            heart = await ending.enter_async_context(Heart(settings.heartbeat_url))
            rounds.append(Round("heartbeat", BEAT_SECONDS, heart.beat))
        yield rounds


@asynccontextmanager
async def no_rounds() -> AsyncIterator[Sequence[Round]]:
    """Nothing to be done beside the sending."""
    yield ()


async def repeat(one: Round, db: AsyncEngine) -> None:
    """Go a round for ever, whatever happens in it; a trouble is logged when it changes."""
    trouble = None
    while True:
        try:
            await one.go(db)
        except (SQLAlchemyError, OSError) as error:  # TimeoutError is an OSError
            if trouble != (trouble := type(error).__name__):
                logger.error("%s: the database cannot be used (%s); trying on", one.name, trouble)
        except Exception as error:  # noqa: BLE001 - a round that ends would end in silence
            if trouble != (trouble := type(error).__name__):
                logger.error(
                    "%s: an unforeseen error, please report it; trying on error=%s place=%s",
                    one.name,
                    trouble,
                    place(error),
                )
        else:
            if trouble is not None:
                logger.warning("%s: goes on", one.name)
            trouble = None
        await asyncio.sleep(one.every_seconds)
