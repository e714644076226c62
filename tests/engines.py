"""An engine in the test's own loop, on a real database, sending over real HTTP."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from aiohttp.abc import AbstractResolver

from signalpost import database
from signalpost.clock import Clocks, Lease
from signalpost.dispatch import Dispatcher
from signalpost.engine import Engine
from signalpost.outbox import Outbox
from signalpost.secretbox import SecretBox
from signalpost.sender import Sender
from signalpost.settings import Settings
from signalpost.transport import AiohttpTransport

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
KEY = SecretBox.new_key()
BOX = SecretBox([KEY])
SECRET = "correct horse battery staple"
SEALED = BOX.encrypt(SECRET.encode())


@dataclass
class Rig:
    """The parts of one worker's engine."""

    engine: Engine
    outbox: Outbox
    dispatcher: Dispatcher
    lease: Lease
    announced: list[int] = field(default_factory=list)


@asynccontextmanager
async def engine_rig(
    database_url: str,
    *,
    clocks: Clocks | None = None,
    enabled: bool = True,
    shutdown_seconds: float = 5.0,
    window_size: int = 200,
    threads: int = 64,
    start: bool = True,
    box: SecretBox = BOX,
    chance: float = 0.0,
    announce: Callable[[Sequence[int]], None] | None = None,
    ring: Callable[[], None] = lambda: None,
    resolver: AbstractResolver | None = None,
    outbox_of: type[Outbox] = Outbox,
) -> AsyncIterator[Rig]:
    """Build an engine as the worker does, start it, and end it in order."""
    settings = Settings(database_url=database_url, retry_delay_seconds=0.05, max_retries=3)
    db = database.async_engine(database_url, busy=True, pool_size=8)
    sender = Sender(AiohttpTransport([LOOPBACK], resolver=resolver))
    outbox = outbox_of(db, worker_id=uuid4(), worker_name="tests:1")
    lease = Lease(clocks)
    dispatcher = Dispatcher(
        outbox=outbox,
        sender=sender,
        lease=lease,
        settings=settings,
        box=box,
        chance=lambda: chance,
    )
    announced: list[int] = []

    def remember(alert_ids: Sequence[int]) -> None:
        announced.extend(alert_ids)

    engine = Engine(
        outbox=outbox,
        dispatcher=dispatcher,
        lease=lease,
        enabled=enabled,
        shutdown_seconds=shutdown_seconds,
        announce_alerts=announce or remember,
        ring=ring,
        window_size=window_size,
        threads=threads,
    )
    try:
        if start:
            await engine.start()
        yield Rig(engine, outbox, dispatcher, lease, announced)
    finally:
        await engine.finish()
        await sender.aclose()
        await db.dispose()
