"""When this process's consumer last had an answer from Redis, which kombu tells nobody.

A worker asks Redis for messages by BRPOP, which answers at least once a second. Workers have been
seen to stop asking and to live on; such a one still answers a ping, which comes by another
connection. So the answers themselves are noted, where kombu reads them. In a version of kombu that
was not looked at, nothing is noted and no consumer is called stuck.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from queue import Empty
from typing import Any

from kombu.transport.redis import Channel

KNOWN_VERSIONS = ("5.7.0",)

_channel: Any = Channel
_heard_at: float | None = None


def install() -> bool:
    """Begin to note answers; tell whether the installed kombu is one where that can be done."""
    if version("kombu") not in KNOWN_VERSIONS:
        return False
    if not hasattr(_channel, "signalpost_reads"):
        _channel.signalpost_reads = _channel._brpop_read  # noqa: SLF001 - nothing public tells it
        _channel._brpop_read = _read  # noqa: SLF001 - as above
    return True


def heard_at() -> float | None:
    """When the last answer came (monotonic seconds); None before the first."""
    return _heard_at


def _read(channel: Any, **options: Any) -> Any:
    global _heard_at  # noqa: PLW0603 - one consumer a process
    try:
        found = channel.signalpost_reads(**options)
    except Empty:
        _heard_at = time.monotonic()
        raise
    _heard_at = time.monotonic()
    return found
