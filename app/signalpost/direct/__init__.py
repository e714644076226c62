"""Direct pieces: one signal posted now, retries around it, and a word to the owner.

NOT DURABLE. A signal that was not taken is lost with the process that was sending it; what loses
nothing is `Producer.enqueue`. These are for what needs an answer at once, and for trying a receiver
out. A signal goes one way or the other: sent directly and enqueued as well it is two deliveries,
with two idempotency keys.
"""

from __future__ import annotations

from signalpost.direct.answers import SignalIngestResponse
from signalpost.direct.client import SignalClient
from signalpost.direct.retrying import retry_async, retryable, with_retry
from signalpost.direct.telling import (
    send_owner_alert,
    send_owner_alert_async,
    send_signal_delivery_error,
    send_signal_delivery_error_async,
)
from signalpost.errors import (
    AlertError,
    NetworkError,
    ReceiverError,
    RetryExhausted,
    SendError,
    SendTimeout,
    SignalExpired,
    SignalRejected,
)

__all__ = [
    "AlertError",
    "NetworkError",
    "ReceiverError",
    "RetryExhausted",
    "SendError",
    "SendTimeout",
    "SignalClient",
    "SignalExpired",
    "SignalIngestResponse",
    "SignalRejected",
    "retry_async",
    "retryable",
    "send_owner_alert",
    "send_owner_alert_async",
    "send_signal_delivery_error",
    "send_signal_delivery_error_async",
    "with_retry",
]
