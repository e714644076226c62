"""Delivers trading signals, signed, to HTTP endpoints: never lost, never late, never silent.

This is the public door: what is named in `__all__` stays compatible within a major version, and
docs/api.md explains it. A name is loaded when it is first asked for, so that a strategy which only
enqueues, or a server which only verifies, does not wait for the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from signalpost.core.signals import Signal
    from signalpost.core.signing import Profile, Verified
    from signalpost.errors import (
        DatabaseUnavailable,
        EnqueueError,
        EnqueueTimeout,
        EnqueueUnknown,
        IdempotencyConflict,
        NoEndpoint,
        SignalError,
        SignalpostError,
        SignatureError,
    )
    from signalpost.producer import DeliveryView, Enqueued, Producer
    from signalpost.verifying import verify

__all__ = [
    "DatabaseUnavailable",
    "DeliveryView",
    "EnqueueError",
    "EnqueueTimeout",
    "EnqueueUnknown",
    "Enqueued",
    "IdempotencyConflict",
    "NoEndpoint",
    "Producer",
    "Profile",
    "Signal",
    "SignalError",
    "SignalpostError",
    "SignatureError",
    "Verified",
    "verify",
]

_HOMES = {
    "DeliveryView": "signalpost.producer",
    "Enqueued": "signalpost.producer",
    "Producer": "signalpost.producer",
    "Profile": "signalpost.core.signing",
    "Signal": "signalpost.core.signals",
    "Verified": "signalpost.core.signing",
    "verify": "signalpost.verifying",
}


if not TYPE_CHECKING:  # so that a type checker reports a name that is not there

    def __getattr__(name: str) -> object:
        """Load a public name from its home; Python asks here for what it lacks (PEP 562)."""
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        found: object = getattr(import_module(_HOMES.get(name, "signalpost.errors")), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
