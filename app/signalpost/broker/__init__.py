"""What goes to Redis: task messages by name, and the doorbell. Ids only, never a body or a secret.

Redis only makes a delivery sooner, so nothing here raises for an absent one or waits for it long.
Messages are made by Celery itself on a channel that keeps them, and pushed by a client of our own:
so one round trip announces many, the doorbell rings inside Redis, and all timeouts are ours.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from redis import Redis

    from signalpost.broker.messages import Messages

__all__ = [
    "ALERTS_QUEUE",
    "ALERT_TASK",
    "DELIVER_QUEUE",
    "DELIVER_TASK",
    "DRAIN_QUEUE",
    "DRAIN_TASK",
    "FEW",
    "PRUNE_TASK",
    "QUEUES",
    "UPKEEP_QUEUE",
    "Announcement",
    "Broker",
]

logger = logging.getLogger(__name__)

DELIVER_TASK, DELIVER_QUEUE = "signalpost.deliver", "deliver"
DRAIN_TASK, DRAIN_QUEUE = "signalpost.drain", "drain"
ALERT_TASK, ALERTS_QUEUE = "signalpost.alert", "alerts"
PRUNE_TASK, UPKEEP_QUEUE = "signalpost.prune", "upkeep"

QUEUES = (DELIVER_QUEUE, DRAIN_QUEUE, ALERTS_QUEUE, UPKEEP_QUEUE)

FEW = 5
"""Up to so many deliveries get a message each, readable in Flower; more ring the doorbell."""

CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 1.0
SKIP_SECONDS = 2.0
"""After a failure Redis is left alone for so long, so that a dead one delays nobody."""

# One drain in the queue is enough: it takes all that is due when it runs. Asked and pushed in one
# step inside Redis, so no flag can get stuck (facts: SET NX can).
_RING = """
if redis.call('LLEN', KEYS[1]) == 0 then
    return redis.call('LPUSH', KEYS[1], ARGV[1])
end
return 0
"""


@dataclass(frozen=True, slots=True)
class Announcement:
    """A delivery that is due now, with the labels that operators may see."""

    delivery_id: UUID
    signal_id: UUID
    instrument: str
    endpoint: str

    def __str__(self) -> str:
        return (
            f"(delivery {self.delivery_id}, signal {self.signal_id}, {self.instrument}, "
            f"endpoint {self.endpoint})"
        )


class Broker:
    """Publishes to one Redis; every call says whether Redis took it, and none raises.

    Without a URL nothing is published. Safe to use from several threads; make it after a fork.
    """

    def __init__(
        self, redis_url: str | None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = redis_url
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._messages: Messages | None = None
        self._redis: Redis | None = None
        self._skip_until: float | None = None
        self._failing = False

    def warm_up(self) -> None:
        """Load what the first message needs, so that no deadline is spent on it."""
        if self._url is not None:
            _, messages = self._ready()
            messages.make(DRAIN_QUEUE, DRAIN_TASK, [], "()")

    def announce(self, announcements: Sequence[Announcement]) -> bool:
        """Tell the workers of deliveries that are committed and due."""
        if len(announcements) > FEW:
            return self.ring()
        tasks = [(DELIVER_TASK, [str(item.delivery_id)], str(item)) for item in announcements]
        return self._push(DELIVER_QUEUE, tasks)

    def ring(self) -> bool:
        """Ring the doorbell: a drain is on its way, or one was already waiting."""
        return self._send(
            lambda redis, messages: redis.eval(
                _RING, 1, DRAIN_QUEUE, messages.make(DRAIN_QUEUE, DRAIN_TASK, [], "()")
            )
        )

    def announce_alerts(self, alert_ids: Sequence[int]) -> bool:
        """Tell the ops workers of alerts that are committed and due.

        Of many, a few: a message to the operator takes along whatever is due of its kind, and the
        ops worker looks every second by itself.
        """
        tasks = [(ALERT_TASK, [alert], f"(alert {alert})") for alert in alert_ids[:FEW]]
        return self._push(ALERTS_QUEUE, tasks)

    def answers(self) -> bool:
        """Whether Redis answers at all."""
        return self._send(lambda redis, _: redis.ping())

    def queue_depths(self) -> dict[str, int] | None:
        """How many messages wait in each queue; None where Redis cannot be asked."""
        depths: dict[str, int] = {}

        def ask(redis: Redis, _: Messages) -> None:
            with redis.pipeline(transaction=False) as pipe:
                for queue in QUEUES:
                    pipe.llen(queue)
                depths.update(zip(QUEUES, pipe.execute(), strict=True))

        return depths if self._send(ask) else None

    def close(self) -> None:
        """Close the connections; a later call opens them anew."""
        with self._lock:
            redis, self._redis = self._redis, None
        if redis is not None:
            redis.close()

    def _push(self, queue: str, tasks: Sequence[tuple[str, list[Any], str]]) -> bool:
        if not tasks:
            return True
        return self._send(
            lambda redis, messages: redis.lpush(
                queue, *(messages.make(queue, *task) for task in tasks)
            )
        )

    def _send(self, act: Callable[[Redis, Messages], object]) -> bool:
        skip_until = self._skip_until
        if self._url is None or (skip_until is not None and self._monotonic() < skip_until):
            return False
        try:
            act(*self._ready())
        except Exception as trouble:  # noqa: BLE001 - redis-py raises any class for a URL's options
            self._skip_until = self._monotonic() + SKIP_SECONDS
            if not self._failing:
                self._failing = True
                # Its text may quote the server's address or the command: the type is enough.
                logger.warning(
                    "Redis takes no messages (%s); deliveries go on from PostgreSQL, a bit later",
                    type(trouble).__name__,
                )
            return False
        if self._failing:
            self._failing = False
            logger.info("Redis takes messages again")
        return True

    def _ready(self) -> tuple[Redis, Messages]:
        with self._lock:
            if self._messages is None:
                # A strategy that only imports us, or a test, does not wait for Celery.
                from signalpost.broker.messages import Messages  # noqa: PLC0415

                self._messages = Messages()
            if self._redis is None:
                self._redis = _client(str(self._url))
            return self._redis, self._messages


def _client(url: str) -> Redis:
    from redis import Redis  # noqa: PLC0415 - see Broker._ready
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.exceptions import ConnectionError as Disconnected  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    return Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        socket_keepalive=True,
        # Once more at once: a pooled connection of before a restart says nothing about now. A
        # message that arrives twice finds nothing to claim the second time.
        retry=Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),
    )
