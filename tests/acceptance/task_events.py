"""What Flower hears: task events, taken from the broker by Celery's own receiver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from celery import Celery
from redis import Redis

Event = dict[str, Any]


def listeners(redis_url: str) -> int:
    """How many listen to something in Redis now; one more once a receiver hears events."""
    with Redis.from_url(redis_url) as client:
        return int(client.pubsub_numpat())


class TaskEvents:
    """Collects task events from the moment the block is entered; `found` is in order of arrival."""

    def __init__(self, redis_url: str) -> None:
        self.found: list[Event] = []
        self._url = redis_url
        self._app = Celery(broker=redis_url, set_as_current=False)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def of(self, kind: str, task: str | None = None) -> list[Event]:
        """Events of one kind (`received`, `succeeded` ...), of one task (by its name or its id)."""
        names = {e["uuid"]: e["name"] for e in self.found if e["type"] == "task-received"}
        return [
            event
            for event in self.found
            if event["type"] == f"task-{kind}"
            and task in (None, event["uuid"], names.get(event["uuid"]))
        ]

    def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Return as soon as `condition()` holds; fail with all events after `seconds`."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s: {self.found}"
            time.sleep(0.02)

    def __enter__(self) -> Self:
        before = listeners(self._url)
        self._thread.start()
        self.until(lambda: listeners(self._url) > before)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join(10)
        self._app.close()

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            receiver: Any = self._app.events.Receiver(connection, handlers={"*": self._keep})
            with receiver.consumer_context(wakeup=False) as (conn, _, _):
                while not self._ending.is_set():
                    try:
                        conn.drain_events(timeout=0.2)
                    except TimeoutError:
                        continue

    def _keep(self, event: Event) -> None:
        if event["type"].startswith("task-"):
            self.found.append(event)
