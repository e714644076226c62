"""The heartbeat: a monitor outside hears from us only while all is well, so silence is an alarm."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost.logs import Without
from signalpost.repository import watching
from signalpost.repository.reading import database_time

logger = logging.getLogger(__name__)

BEAT_SECONDS = 60.0
TIMEOUT_SECONDS = 15.0
"""For one beat, all steps together."""
LOOK_SECONDS = 30.0
UNSENT_SECONDS = 300.0
"""No alert may wait longer than this while the heart beats."""


class Heart:
    """Fetches one URL while nothing is overdue and no alert waits; belongs to one event loop.

    The URL is a secret of its own: whoever has it can feign that all is well. It is never logged.
    """

    def __init__(self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        host = urlsplit(url).hostname or ""
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._skipping: str | None = None
        logging.getLogger("httpx").addFilter(Without(url))
        self._client = httpx.AsyncClient(
            timeout=timeout_seconds, trust_env=host not in ("localhost", "127.0.0.1", "::1")
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def beat(self, db: AsyncEngine) -> bool:
        """Beat once, if all is well; say whether the monitor took it.

        Raises what a database raises that is away: then there is no beat either.
        """
        async with asyncio.timeout(LOOK_SECONDS), db.connect() as connection:
            hindrance = await connection.run_sync(_hindrance)
        if hindrance is None:
            hindrance = await self._fetch()
        if hindrance is not None and hindrance != self._skipping:
            logger.warning("heartbeat: none, because %s", hindrance)
        elif hindrance is None and self._skipping is not None:
            logger.warning("heartbeat: it beats again")
        self._skipping = hindrance
        return hindrance is None

    async def _fetch(self) -> str | None:
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream("GET", self._url) as answer,
            ):
                # Its body is of no use, however long it is.
                if answer.is_success:
                    return None
                return f"the monitor answered {answer.status_code}; check HEARTBEAT_URL"
        except TimeoutError:
            return "the monitor did not answer in time"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return f"the monitor cannot be reached ({type(error).__name__}); check HEARTBEAT_URL"


def _hindrance(connection: Connection) -> str | None:
    now = database_time(connection)
    if watching.overdue(connection, now=now) is not None:
        return f"deliveries are overdue by {watching.OVERDUE_SECONDS:.0f} s"
    if watching.oldest_unsent_seconds(connection, now=now) > UNSENT_SECONDS:
        return f"alerts are unsent for {UNSENT_SECONDS:.0f} s"
    return None
