"""The producer: what a strategy process calls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Connection

from signalpost.core.signals import Signal, check_producer_id
from signalpost.producer.callers import AsyncTarget, CallersTransactions, Target, Work
from signalpost.producer.lifetime import Lifetime
from signalpost.producer.preparing import (
    DEFAULT,
    Priority,
    Ttl,
    announcements,
    endpoint_names,
    life,
    prepared,
    prepared_many,
    way,
)
from signalpost.producer.writing import Attempt
from signalpost.repository.enqueueing import Way, enqueue
from signalpost.repository.recognising import DeliveryView, NewSignal, Stored
from signalpost.settings import load_settings

__all__ = ["AnySignal", "Enqueued", "Producer"]

AnySignal = Signal | Mapping[str, Any]

ANNOUNCE_SECONDS = 1.0
"""How long a caller waits at most to learn whether Redis took the announcement."""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A signal in the outbox with its deliveries, by endpoint.

    duplicate: it was there before. announced: Redis was told, or there was nothing to tell; where
    it is False the workers find the deliveries by themselves, seconds later.
    """

    signal_id: UUID
    deliveries: tuple[DeliveryView, ...]
    duplicate: bool
    announced: bool


class Producer:
    """Enqueues signals; made once, used from any thread or event loop, and after a fork.

    Addresses and the producer's id come from the arguments, else from `environ` as for the command
    line (but never from a `.env` file); `data` is the data folder of a stack to join. Nothing is
    connected before the first signal. Raises ConfigurationError.
    """

    def __init__(
        self,
        database_url: str | None = None,
        redis_url: str | None = None,
        *,
        data: Path | str | None = None,
        producer_id: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        given = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PRODUCER_ID": producer_id}
        self._settings = load_settings(
            {
                **environ,
                **{f"SIGNALPOST_{name}": value for name, value in given.items() if value},
            },
            data_folder=None if data is None else Path(data),
        )
        self.producer_id = check_producer_id(self._settings.producer_id)
        self._lifetime = Lifetime(self._settings)
        self._callers = CallersTransactions(self._lifetime)

    def enqueue(
        self,
        signal: AnySignal,
        *,
        key: str | None = None,
        endpoints: Sequence[str] | None = None,
        ttl: Ttl = DEFAULT,
        priority: Priority = "normal",
        ordering_key: str | None = None,
        supersede_key: str | None = None,
        timeout: float = 2.0,
    ) -> Enqueued:
        """Store the signal with a delivery to each of `endpoints` (None: whose filter takes it).

        `priority` high is the exit lane. `ordering_key` (default: the instrument) is what ordered
        endpoints keep in order; an exit never overtakes its own key anywhere. `supersede_key`: an
        older delivery of this producer with the same key, not delivered yet, is not sent any more.
        `key` is the producer's own name for the signal (default: its id); the same key and body
        give back what stands. `ttl` is in seconds from now, None for ever. `timeout` (seconds)
        bounds the whole call. Calling again with the same signal is always safe. Raises the
        EnqueueErrors, and SignalError.
        """
        attempt = Attempt(timeout)
        new = [self._prepared(signal, key)]
        background = self._lifetime.background()
        [stored] = background.run(
            self._work(new, endpoints, ttl, way(priority, ordering_key, supersede_key)), attempt
        )
        told = background.publisher.submit(announcements(new, [stored]))
        return _enqueued(stored, announced=_awaited(told, attempt))

    async def enqueue_async(
        self,
        signal: AnySignal,
        *,
        key: str | None = None,
        endpoints: Sequence[str] | None = None,
        ttl: Ttl = DEFAULT,
        priority: Priority = "normal",
        ordering_key: str | None = None,
        supersede_key: str | None = None,
        timeout: float = 2.0,
    ) -> Enqueued:
        """`enqueue` for a caller on an event loop, which is never blocked."""
        attempt = Attempt(timeout)
        new = [self._prepared(signal, key)]
        background = self._lifetime.background()
        [stored] = await background.run_async(
            self._work(new, endpoints, ttl, way(priority, ordering_key, supersede_key)), attempt
        )
        told = asyncio.wrap_future(background.publisher.submit(announcements(new, [stored])))
        done, _ = await asyncio.wait({told}, timeout=min(attempt.remaining, ANNOUNCE_SECONDS))
        return _enqueued(stored, announced=bool(done) and told.result())

    def enqueue_many(
        self,
        signals: Sequence[AnySignal],
        *,
        endpoints: Sequence[str] | None = None,
        ttl: Ttl = DEFAULT,
        priority: Priority = "normal",
        ordering_key: str | None = None,
        timeout: float = 30.0,
    ) -> list[Enqueued]:
        """Store all signals in one transaction, or none; results are in their order.

        Otherwise as `enqueue`; each signal's key is its id.
        """
        attempt = Attempt(timeout)
        most = self._settings.outbound_max_body_size
        new = prepared_many(signals, producer_id=self.producer_id, most_bytes=most)
        if not new:
            return []
        background = self._lifetime.background()
        stored = background.run(
            self._work(new, endpoints, ttl, way(priority, ordering_key)), attempt
        )
        told = _awaited(background.publisher.submit(announcements(new, stored)), attempt)
        return [_enqueued(one, announced=told) for one in stored]

    def enqueue_in(
        self,
        session_or_connection: Target,
        signal: AnySignal,
        *,
        key: str | None = None,
        endpoints: Sequence[str] | None = None,
        ttl: Ttl = DEFAULT,
        priority: Priority = "normal",
        ordering_key: str | None = None,
        supersede_key: str | None = None,
    ) -> Enqueued:
        """Store the signal in the caller's transaction: it is enqueued exactly if that commits.

        A conflict or a missing endpoint raises and leaves the transaction usable. The announcement
        follows the outermost commit, in the background, so `announced` is False here. Waiting for
        another transaction that stores the same signal is bounded by the caller's own
        lock_timeout. Raises WrongDatabase where the session is bound to another database.
        """
        new = self._prepared(signal, key)
        work = self._work([new], endpoints, ttl, way(priority, ordering_key, supersede_key))
        stored = self._callers.store(session_or_connection, new, work)
        return _enqueued(stored, announced=False)

    async def enqueue_in_async(
        self,
        session_or_connection: AsyncTarget,
        signal: AnySignal,
        *,
        key: str | None = None,
        endpoints: Sequence[str] | None = None,
        ttl: Ttl = DEFAULT,
        priority: Priority = "normal",
        ordering_key: str | None = None,
        supersede_key: str | None = None,
    ) -> Enqueued:
        """`enqueue_in` for an AsyncSession or an AsyncConnection."""
        new = self._prepared(signal, key)
        work = self._work([new], endpoints, ttl, way(priority, ordering_key, supersede_key))
        stored = await self._callers.store_async(session_or_connection, new, work)
        return _enqueued(stored, announced=False)

    def close(self) -> None:
        """Announce what is left and end the background threads, in about a second."""
        self._lifetime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)

    def _prepared(self, signal: AnySignal, key: str | None) -> NewSignal:
        most = self._settings.outbound_max_body_size
        return prepared(signal, key, producer_id=self.producer_id, most_bytes=most)

    def _work(
        self, new: list[NewSignal], endpoints: Sequence[str] | None, ttl: Ttl, chosen: Way
    ) -> Work:
        names = endpoint_names(endpoints)
        lives = life(ttl, self._settings.signal_ttl_seconds)

        def work(conn: Connection, lock_timeout_seconds: float | None) -> list[Stored]:
            return enqueue(
                conn,
                self.producer_id,
                new,
                life=lives,
                endpoints=names,
                way=chosen,
                lock_timeout_seconds=lock_timeout_seconds,
            )

        return work


def _awaited(told: Future[bool], attempt: Attempt) -> bool:
    done, _ = wait([told], min(attempt.remaining, ANNOUNCE_SECONDS))
    return bool(done) and told.result()


def _enqueued(stored: Stored, *, announced: bool) -> Enqueued:
    return Enqueued(stored.signal_id, stored.deliveries, stored.duplicate, announced)
