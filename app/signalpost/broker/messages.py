"""Task messages as Celery itself makes them, in the form kombu writes to Redis, with no connection.

kombu's own memory transport would do, but its queues are shared by the whole process, which may
be a strategy's with a Celery app of its own.
"""

from __future__ import annotations

import threading
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.transport import virtual
from kombu.utils.json import dumps

__all__ = ["Messages"]


class Messages:
    """Makes messages, one at a time; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Not the current app, for the same reason as above.
        self._app = Celery("signalpost", broker="memory://", loader="app", set_as_current=False)
        self._app.conf.update(task_serializer="json", accept_content=["json"])
        self._channel: Any = Connection(transport=_KeepingTransport).channel()
        self._producer = self._app.amqp.Producer(self._channel, auto_declare=False)

    def make(self, queue: str, task: str, args: list[Any], shown: str) -> str:
        """A message for `task`, to be pushed on `queue`; Flower shows `shown` as its arguments."""
        with self._lock:
            self._app.send_task(
                task,
                args,
                queue=queue,
                producer=self._producer,
                ignore_result=True,
                argsrepr=shown,
                declare=[],
                retry=False,
                add_to_parent=False,
            )
            text: str = dumps(self._channel.kept)
            return text


class _KeepingChannel(virtual.Channel):
    """Keeps the last message that was published."""

    kept: dict[str, Any] | None = None

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:  # noqa: ARG002 - kombu's
        self.kept = message


class _KeepingTransport(virtual.Transport):
    Channel = _KeepingChannel
    driver_type = "keeping"
    driver_name = "keeping"

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self.state = virtual.BrokerState()
