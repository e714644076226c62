"""What one worker process runs beside Celery: the engine, or the alert loop."""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import ParamSpec
from uuid import uuid4

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost import database
from signalpost.alerts import AlertLoop, courier_for, pace_for, rounds_for
from signalpost.broker import Broker
from signalpost.clock import Clocks, Lease
from signalpost.dispatch import Dispatcher
from signalpost.engine import Engine as DeliveryEngine
from signalpost.engine_thread import EngineThread
from signalpost.errors import SecretError, SettingError
from signalpost.health import STUCK_SECONDS
from signalpost.intake import THREADS
from signalpost.metrics import Counting
from signalpost.outbox import Outbox
from signalpost.repository import endpoints, notices
from signalpost.repository.default_endpoint import ensure_default_endpoint
from signalpost.secretbox import SecretBox
from signalpost.sender import Sender
from signalpost.settings import Settings
from signalpost.transport import AiohttpTransport
from signalpost.upkeep import prune
from signalpost_worker.stuck import LOOK_SECONDS, ConsumerWatch
from signalpost_worker.watching import CountedCourier, Watching

logger = logging.getLogger(__name__)

Told = ParamSpec("Told")

POOL_SIZE = 8
GRACE_SECONDS = 5.0
LAST_SECONDS = 30.0
"""A worker that has lost its engine ends by force after so long."""
LONGEST_SECONDS = 300.0
"""No attempt takes longer (OUTBOUND_TIMEOUT_SECONDS)."""


class Runtime:
    """Builds and holds what the tasks of one process call; `clocks` are this machine's."""

    def __init__(
        self,
        settings: Settings,
        clocks: Clocks | None = None,
        *,
        stuck_seconds: float = STUCK_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Take also when a silent consumer is called stuck, and how often that is looked at."""
        self.settings = settings
        self._clocks = clocks
        self.failed = False
        self.threads = THREADS
        self.asked_to_end = False
        self.counting = Counting()
        self.engine = EngineThread(self._deliver_engine, died=self._end_worker)
        self.alerts = AlertLoop(
            lambda: database.async_engine(settings.database_url),
            lambda: CountedCourier(courier_for(settings), self.counting),
            open_rounds=lambda: rounds_for(settings),
            pace=pace_for(settings),
            died=self._end_worker,
        )
        self.broker = Broker(settings.redis_url)
        self.consumer = ConsumerWatch(
            self.broker,
            self._end_stuck_worker,
            stuck_seconds=stuck_seconds,
            look_seconds=look_seconds,
        )
        self.watching = Watching(settings, self.counting, self.engine, self.consumer, self.broker)
        self._upkeep_database: Engine | None = None

    def _end_worker(self) -> None:
        # In order, and whoever runs the worker starts it again; without its engine it would take
        # every message and send nothing.
        self.failed = True
        os.kill(os.getpid(), signal.SIGTERM)
        # A task that waits for the engine would hold up that order for ever.
        last = threading.Timer(LAST_SECONDS, os._exit, (1,))
        last.daemon = True
        last.start()

    def _end_stuck_worker(self) -> None:
        # What is being posted has its time to end; where the order is stuck as well, not for ever.
        self.failed = True
        self.engine.begin_shutdown()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LAST_SECONDS)
        deadline = time.monotonic() + LONGEST_SECONDS
        while self.engine.in_flight and time.monotonic() < deadline:
            time.sleep(1)
        os._exit(1)

    def prune(self) -> int:
        """Delete what is past its retention; return how many deliveries."""
        if self._upkeep_database is None:
            self._upkeep_database = database.sync_engine(self.settings.database_url, pool_size=1)
        return prune(self._upkeep_database, retention_days=self.settings.retention_days)

    @asynccontextmanager
    async def _deliver_engine(self) -> AsyncIterator[DeliveryEngine]:
        settings = self.settings
        if not settings.secret_keys:
            raise SettingError(
                "SECRET_KEYS is not set; set it to the keys that the endpoints were added with"
            )
        box = SecretBox(settings.secret_keys)
        db = database.async_engine(settings.database_url, busy=True, pool_size=POOL_SIZE)
        sender = Sender(AiohttpTransport(settings.outbound_allow_networks))
        broker = Broker(settings.redis_url)
        messenger = ThreadPoolExecutor(1, thread_name_prefix="signalpost-announce")
        try:
            longest = await self._prepare(db, box)
            name = f"{socket.gethostname()}:{os.getpid()}"
            outbox = Outbox(db, worker_id=uuid4(), worker_name=name)
            lease = Lease(self._clocks)
            dispatcher = Dispatcher(
                outbox=outbox,
                sender=sender,
                lease=lease,
                settings=settings,
                box=box,
                chance=random.random,
                observe=self.counting.attempt,
            )
            yield DeliveryEngine(
                outbox=outbox,
                dispatcher=dispatcher,
                lease=lease,
                enabled=settings.hmac_producer_enabled,
                shutdown_seconds=longest + GRACE_SECONDS,
                announce_alerts=in_background(messenger, broker.announce_alerts),
                ring=in_background(messenger, broker.ring),
                threads=self.threads,
            )
        finally:
            await sender.aclose()
            await db.dispose()
            messenger.shutdown(wait=False, cancel_futures=True)
            broker.close()

    async def _prepare(self, db: AsyncEngine, box: SecretBox) -> float:
        """Check what can be checked at start; return the longest timeout of any endpoint.

        A database that is away is no reason not to start: the engine waits for it.
        """
        settings = self.settings

        def work(connection: Connection) -> float:
            database.check_schema(connection)
            ensure_default_endpoint(connection, settings, box)
            longest = settings.outbound_timeout_seconds
            for endpoint in endpoints.list_endpoints(connection):
                longest = max(longest, endpoint.timeout_seconds or 0.0)
                try:
                    box.decrypt(endpoint.secret_ciphertext)
                except SecretError as error:
                    logger.error("endpoint=%s: its secret cannot be read: %s", endpoint.name, error)
                    notices.raise_notice(
                        connection,
                        kind="secret_unreadable",
                        endpoint_id=endpoint.id,
                        details={"endpoint": endpoint.name},
                    )
            return longest

        try:
            async with db.begin() as connection:
                return await connection.run_sync(work)
        except (SQLAlchemyError, OSError) as trouble:
            logger.warning("starting without the database: %s", type(trouble).__name__)
            return settings.outbound_timeout_seconds


def in_background(
    executor: ThreadPoolExecutor, announce: Callable[Told, bool]
) -> Callable[Told, None]:
    """Return a function that announces in the executor, and that nothing can hold up."""

    def later(*args: Told.args, **kwargs: Told.kwargs) -> None:
        # Redis may be slow or away, or the process about to end; whoever should hear of it finds
        # the rows by itself.
        with suppress(RuntimeError):
            executor.submit(announce, *args, **kwargs)

    return later
