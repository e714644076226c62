"""Every error that signalpost raises on purpose.

    SignalpostError
    ├── ConfigurationError       something was set up wrongly
    │   ├── SettingError         a setting (environment variable, option) has a bad value
    │   └── SecretError          a secret is malformed, too short or unreadable
    ├── SignalError              a signal breaks a rule
    ├── EnqueueError             a signal could not be enqueued
    │   ├── NoEndpoint           no endpoint takes it
    │   ├── IdempotencyConflict  the key is known with another body
    │   ├── EnqueueTimeout       not done in time, nothing written
    │   ├── EnqueueUnknown       the connection broke while committing
    │   ├── DatabaseUnavailable  PostgreSQL cannot be reached
    │   ├── WrongDatabase        this database is not the outbox's
    │   └── SchemaError          the tables are missing, too old or too new
    ├── SendError                a signal could not be sent directly
    │   ├── SignalRejected       the receiver refuses it
    │   ├── SignalExpired        its life is over, nothing was sent
    │   ├── ReceiverError        the receiver cannot take it now
    │   ├── SendTimeout          no answer in time
    │   └── NetworkError         no connection, or one that was lost
    ├── RetryExhausted           every attempt failed
    ├── SignatureError           a request is not verifiably from its producer
    ├── BookError                a receiver's book cannot be used
    ├── BrokerUnavailable        Redis cannot be reached
    ├── EmbeddedError            an embedded server did not start or stop
    ├── EndpointError            an endpoint is described wrongly or unknown
    ├── RecordHeld               an attempt cannot be recorded yet
    ├── ReplayRefused            a delivery cannot be replayed
    └── AlertError               an alert could not be sent

A class's docstring is its message where none is given, so it says what to do next.
No message ever holds a secret, a URL's password or the private part of a signal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "AlertError",
    "BookError",
    "BrokerUnavailable",
    "ConfigurationError",
    "DatabaseUnavailable",
    "EmbeddedError",
    "EndpointError",
    "EnqueueError",
    "EnqueueTimeout",
    "EnqueueUnknown",
    "IdempotencyConflict",
    "NetworkError",
    "NoEndpoint",
    "ReceiverError",
    "RecordHeld",
    "ReplayRefused",
    "RetryExhausted",
    "SchemaError",
    "SecretError",
    "SendError",
    "SendTimeout",
    "SettingError",
    "SignalError",
    "SignalExpired",
    "SignalRejected",
    "SignalpostError",
    "SignatureError",
    "WrongDatabase",
]


class SignalpostError(Exception):
    """signalpost could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or type(self).__name__).split()))


class ConfigurationError(SignalpostError):
    """signalpost is set up wrongly; `signalpost doctor` names what to change."""


class SettingError(ConfigurationError):
    """A setting has a value that cannot be used; correct it and start again."""


class SecretError(ConfigurationError):
    """A secret needs at least 16 bytes, and base64 where it begins with `whsec_`."""


class SignalError(SignalpostError):
    """The signal breaks a rule and was not taken; correct it and enqueue it again.

    `problems` holds one line for each broken rule: the field and the rule, never the value.
    """

    def __init__(self, *problems: str) -> None:
        # Exception.__init__ gets the problems, so that the error survives pickling unchanged.
        Exception.__init__(self, *problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """The broken rules, one line each."""
        return tuple(str(problem) for problem in self.args)

    def __str__(self) -> str:
        if not self.args:
            return "the signal breaks a rule and was not taken"
        return "signal refused: " + "; ".join(self.problems)


class EnqueueError(SignalpostError):
    """The signal was not enqueued; calling again with the same signal is always safe."""


class NoEndpoint(EnqueueError):
    """No endpoint takes the signal, nothing was written; see `signalpost endpoint add`."""


class IdempotencyConflict(EnqueueError):
    """The key or the id is known with another signal; use a new key for a new signal."""


class EnqueueTimeout(EnqueueError):
    """The database was too slow, nothing was written; call again with the same signal."""


class EnqueueUnknown(EnqueueError):
    """The connection broke while committing; call again, the signal is never enqueued twice."""


class DatabaseUnavailable(EnqueueError):
    """PostgreSQL cannot be reached, nothing was written; check the server and DATABASE_URL."""


class WrongDatabase(EnqueueError):
    """This database is not the one that holds the outbox; pass a session bound to it."""


class SchemaError(EnqueueError):
    """The outbox's tables are missing or of another release; run `signalpost migrate`."""


class SendError(SignalpostError):
    """The signal was not taken by the receiver; sending it again keeps its idempotency key.

    maybe_received: this attempt or an earlier one of the same client may have arrived.
    status_code: of the answer, if there was one. answer: what it said, a
    `signalpost.direct.SignalIngestResponse`; the receiver's words may quote the signal, so they
    stand here and not in the message. retry_after_seconds: how long the receiver asks to wait.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        maybe_received: bool = False,
        status_code: int | None = None,
        answer: Any = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.maybe_received = maybe_received
        self.status_code = status_code
        self.answer = answer
        self.retry_after_seconds = retry_after_seconds

    @property
    def details(self) -> tuple[str, ...]:
        """The errors that the receiver lists, in its own words."""
        return () if self.answer is None else tuple(self.answer.errors)


class SignalRejected(SendError):
    """The receiver refuses the signal for good and `details` says why; do not send it again."""


class SignalExpired(SendError):
    """The signal's life is over, so nothing was sent; make a new signal with a new expiry."""


class ReceiverError(SendError):
    """The receiver cannot take the signal now; send the same signal again a little later."""


class SendTimeout(SendError):
    """The receiver did not answer in time; send the same signal again, its key stays the same."""


class NetworkError(SendError):
    """The receiver was not reached or the connection was lost; send the same signal again."""


class RetryExhausted(SignalpostError):
    """Every attempt failed: `attempts` of them, the last one with `last_error`."""

    def __init__(
        self,
        message: str | None = None,
        *,
        attempts: int = 0,
        last_error: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.last_error = last_error

    @property
    def maybe_received(self) -> bool:
        """Whether some attempt may have arrived all the same."""
        return bool(getattr(self.last_error, "maybe_received", False))


class SignatureError(SignalpostError):
    """The request is not verifiably from its producer; answer 401 and do not act on it."""


class BookError(SignalpostError):
    """The receiver's book cannot be used; nothing is received until it can."""


class BrokerUnavailable(SignalpostError):
    """Redis cannot be reached; deliveries go on from PostgreSQL, a little later than usual."""


class EmbeddedError(SignalpostError):
    """An embedded server did not start or stop; its log is in the data folder."""


class EndpointError(SignalpostError):
    """The endpoint is unknown or described wrongly; see `signalpost endpoint list`."""


class RecordHeld(SignalpostError):
    """Somebody's open transaction holds the delivery; its attempt is recorded after that."""


class ReplayRefused(SignalpostError):
    """The delivery cannot be replayed: only dead and expired deliveries can."""


class AlertError(SignalpostError):
    """The alert could not be sent; it stays stored and is tried again."""
