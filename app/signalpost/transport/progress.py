"""How far an attempt has got, readable at any time, and why it went no further.

A :class:`Progress` travels in `request.extensions["signalpost"]`: the sender puts it there, a
transport of ours keeps it up to date, the engine reads it from outside, also after it has cancelled
the attempt.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

import httpx

from signalpost.core.outcomes import Failure, Phase

_ORDER = {phase: place for place, phase in enumerate(Phase)}


class LastCheck(Protocol):
    """Called once the connection stands, in the same event-loop step as the first write."""

    def __call__(self) -> Failure | None:
        """A Failure ends the attempt with no byte sent; None lets it go."""
        ...


class Progress:
    """How far one attempt has got.

    Args:
        last_check: what to ask before the first byte; None asks nothing.
    """

    __slots__ = ("_flushed", "_written", "last_check", "phase", "tls")

    def __init__(self, last_check: LastCheck | None = None) -> None:
        self.last_check = last_check
        self.phase = Phase.NONE
        self.tls: ssl.SSLObject | None = None
        """Of the connection, once it stands, where it is encrypted."""
        self._written = False
        self._flushed: Callable[[], bool] | None = None

    def advance(self, phase: Phase) -> None:
        """Record that `phase` has begun; a step already passed stays passed."""
        if _ORDER[phase] > _ORDER[self.phase]:
            self.phase = phase

    @property
    def written(self) -> bool:
        """Whether the kernel has taken the whole request: it can no longer be held back."""
        if not self._written and self._flushed is not None:
            self._written = self._flushed()
        return self._written

    def watch(self, flushed: Callable[[], bool]) -> None:
        """Ask `flushed` from now on whether the request has left."""
        self._flushed = flushed

    def settle(self) -> None:
        """Keep the last word on `written`: the connection is about to be dropped or reused."""
        self._written = self.written
        self._flushed = None


class AttemptFailed(httpx.TransportError):
    """An attempt ended without an answer; raised by our transport, judged by the sender.

    Args:
        failure: why.
        detail: short, in our words: never the receiver's bytes, never anything private.
    """

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
