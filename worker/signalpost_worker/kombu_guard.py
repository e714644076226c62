"""A guard for kombu 5.7.0: a channel whose connection is gone must say so as a connection error.

When Redis dies while a BRPOP waits, celery 5.7.0 closes the connection, and the channel is then
asked for its parameters once more. ``Channel._connparams`` reads the host name of
``self.connection.client``, which is None by then, and the AttributeError ends the worker instead of
letting it connect again. Take this away once kombu raises a connection error there by itself: its
test fails then.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

GUARDED_VERSIONS = ("5.7.0",)

_channel: Any = Channel


def install() -> bool:
    """Put the guard in place where the installed kombu needs it; tell whether it stands."""
    if version("kombu") not in GUARDED_VERSIONS:
        return False
    if not hasattr(_channel, "signalpost_guards"):
        _channel.signalpost_guards = _channel._connparams  # noqa: SLF001 - the place of the defect
        _channel._connparams = _guarded  # noqa: SLF001 - as above
    return True


def _guarded(channel: Any, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - as kombu's
    if channel.connection is None or channel.connection.client is None:
        raise RedisConnectionError("the connection of this channel is closed")
    return _channel.signalpost_guards(channel, asynchronous)
