"""Whether Redis can be used, asked by a client of our own: no queue, no Celery."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

ANSWER_SECONDS = 3.0


class RedisProbe:
    """Asks one Redis whether it is there; belongs to the event loop that first uses it."""

    def __init__(self, url: str) -> None:
        """Take the address; nothing is connected yet. Raises ValueError for options unknown."""
        self._redis = Redis.from_url(
            url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS
        )

    async def trouble(self) -> str | None:
        """Why Redis cannot be used, in words without its address; None where it can."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.ping()
        except AuthenticationError:
            return "it refuses the password"
        except (RedisError, OSError, TimeoutError) as error:
            return "it does not answer" if isinstance(error, TimeoutError) else type(error).__name__
        return None

    async def aclose(self) -> None:
        """Close the connection."""
        await self._redis.aclose()
