"""Which Celery workers answer by way of Redis, and which queues each of them takes from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from signalpost.errors import BrokerUnavailable

__all__ = ["nodes"]


def nodes(
    redis_url: str, *, wait_seconds: float = 1.0, timeout_seconds: float = 3.0
) -> Mapping[str, frozenset[str]]:
    """The queues of each worker, by its name; blocks for `wait_seconds`, longer in trouble only.

    Raises BrokerUnavailable where Redis does not answer within `timeout_seconds`.
    """
    app = Celery("signalpost", broker=redis_url, loader="app", set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry=False,
        broker_transport_options={
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
            "max_retries": 0,
        },
    )
    try:
        with _quiet():
            found = app.control.inspect(timeout=wait_seconds).active_queues()
    except (RedisError, KombuError, OSError) as error:
        raise BrokerUnavailable(f"Redis did not answer ({type(error).__name__})") from None
    finally:
        app.close()
    answers = (found or {}).items()
    return {name: frozenset(str(queue["name"]) for queue in queues) for name, queues in answers}


@contextlib.contextmanager
def _quiet() -> Any:
    # kombu warns of what is raised all the same.
    logger = logging.getLogger("kombu")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
