from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

from signalpost_worker import kombu_guard

CLOSED = SimpleNamespace(connection=SimpleNamespace(client=None))

UNGUARDED = """
from types import SimpleNamespace
from kombu.transport.redis import Channel
Channel._connparams(SimpleNamespace(connection=SimpleNamespace(client=None)))
"""


def test_a_channel_without_its_connection_says_that_it_is_closed() -> None:
    """Celery reconnects after a connection error; any other error would end the worker."""
    assert kombu_guard.install()
    assert kombu_guard.install()
    channel: Any = Channel
    with pytest.raises(RedisConnectionError):
        channel._connparams(CLOSED)


def test_the_guard_is_still_needed() -> None:
    """Without the guard kombu raises AttributeError here; once it does not, the guard can go."""
    found = subprocess.run(
        [sys.executable, "-c", UNGUARDED], capture_output=True, text=True, check=False, timeout=60
    )
    assert "AttributeError" in found.stderr
