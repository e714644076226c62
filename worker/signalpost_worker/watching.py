"""What a worker process shows of itself: `/metrics` and `/healthz`, where METRICS_PORT is set."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self

from prometheus_client import Gauge

from signalpost import database
from signalpost.alerts import Courier
from signalpost.broker import Broker
from signalpost.core.receipts import Receipt, Refused
from signalpost.engine_thread import EngineThread
from signalpost.health import OutboxLook, outbox_trouble
from signalpost.metrics import Counting, MetricsServer, OutboxGauges
from signalpost.settings import Settings
from signalpost_worker.stuck import ConsumerWatch

BEAT_SECONDS = 180.0
"""Beat looks at its schedule once a minute at least."""


class Watching:
    """The pages of one process; which parts it has is known when the worker starts."""

    def __init__(
        self,
        settings: Settings,
        counting: Counting,
        engine: EngineThread,
        consumer: ConsumerWatch,
        broker: Broker,
    ) -> None:
        self._settings = settings
        self._counting = counting
        self._engine = engine
        self._consumer = consumer
        self._broker = broker
        self._look = OutboxLook(
            lambda: database.sync_engine(
                settings.database_url,
                connect_timeout=2,
                pool_size=1,
                max_overflow=0,
                pool_timeout=2,
                pool_pre_ping=True,
            )
        )
        self._asked: list[Callable[[], str | None]] = []
        self._server: MetricsServer | None = None

    def start(self, *, delivers: bool, alerts: bool) -> None:
        """Serve the pages. Raises SettingError where the port cannot be had."""
        settings = self._settings
        if settings.metrics_port is None:
            return
        self._asked.append(lambda: outbox_trouble(self._look()))
        if delivers:
            self._asked.append(self._engine.trouble)
            self._gauge(
                "signalpost_in_flight",
                "Attempts under way in this process.",
                lambda: float(self._engine.in_flight),
            )
        if alerts:
            self._counting.registry.register(OutboxGauges(self._look, self._broker.queue_depths))
        if self._consumer.heard:
            self._asked.append(self._consumer.trouble)
            self._gauge(
                "signalpost_consumer_silent_seconds",
                "How long the consumer has heard nothing from a Redis that answers.",
                self._consumer.silent_seconds,
            )
        self._serve(settings.metrics_port)

    def start_beat(self, beat: Any) -> None:
        """Serve the pages of a beat process, which is well while it looks at its schedule."""

        def trouble() -> str | None:
            ago = time.monotonic() - (beat._last_tick or begun)  # noqa: SLF001 - nothing public
            return None if ago < BEAT_SECONDS else f"beat has not kept time for {ago:.0f} s"

        begun = time.monotonic()
        if self._settings.metrics_port is not None:
            self._asked.append(trouble)
            self._serve(self._settings.metrics_port)

    def _serve(self, port: int) -> None:
        settings = self._settings
        self._server = MetricsServer(
            self._counting.registry,
            self.troubles,
            address=settings.metrics_address,
            port=port + settings.process_index,
        )
        self._server.start()

    def troubles(self) -> list[str]:
        """Why this process is not well, a line each."""
        return [found for ask in self._asked if (found := ask()) is not None]

    def stop(self) -> None:
        """Serve no more."""
        if self._server is not None:
            self._server.stop()
        self._look.close()

    def _gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        Gauge(name, what, registry=self._counting.registry).set_function(value)


class CountedCourier:
    """A courier whose receipts and refusals are counted."""

    def __init__(self, courier: AbstractAsyncContextManager[Courier], counting: Counting) -> None:
        self._outer = courier
        self._counting = counting
        self._ending = AsyncExitStack()
        self._courier: Courier | None = None

    async def deliver(self, text_html: str) -> Receipt | Refused:
        """Bring the text by the courier within."""
        assert self._courier is not None  # noqa: S101 - it was entered
        answer = await self._courier.deliver(text_html)
        self._counting.alert(sent=isinstance(answer, Receipt))
        return answer

    async def __aenter__(self) -> Self:
        self._courier = await self._ending.enter_async_context(self._outer)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._ending.aclose()
