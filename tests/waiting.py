"""Wait for a condition with a deadline, in a test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sqlalchemy import Engine, text


async def until(condition: Callable[[], object], *, seconds: float = 30.0) -> None:
    """Return as soon as ``condition()`` is true, asked in a thread; fail after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - a database rings no bell
            await asyncio.sleep(0.02)


def counts(engine: Engine) -> dict[str, int]:
    """How many deliveries there are of each status."""
    question = text("SELECT status, count(*) FROM signalpost.deliveries GROUP BY status")
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(question)}
