"""A guard for kombu 5.7.0: a channel whose connection is gone must say so as a connection error.

When Redis dies while a BRPOP waits, celery 5.7.0 closes the connection and the channel is then asked
for its parameters once more. ``Channel._connparams`` reads ``self.connection.client.hostname`` of a
client that is already None, and the AttributeError ends the worker instead of letting it reconnect.
Remove this once a kombu release raises a connection error there; the test of the same name fails
when the guard is no longer needed.
"""

from __future__ import annotations

from typing import Any

import kombu
from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

GUARDED_VERSIONS = ("5.7.0",)


def install() -> bool:
    """Put the guard in place where the installed kombu needs it; tell whether it did."""
    if kombu.__version__ not in GUARDED_VERSIONS or hasattr(Channel, "signalpost_guarded"):
        return False
    unguarded = Channel._connparams  # noqa: SLF001 - the place of the defect

    def connparams(self: Any, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - as kombu
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection of this channel is closed")
        return unguarded(self, asynchronous)

    Channel._connparams = connparams  # noqa: SLF001
    Channel.signalpost_guarded = True
    return True
