"""From what came back to what the caller gets: the receiver's answer, or one of our errors."""

from __future__ import annotations

from datetime import datetime
from typing import NoReturn

from signalpost.core.lifecycle import RETRY_AFTER_CAP_SECONDS
from signalpost.core.outcomes import Answer, Failure, Outcome, Verdict, retry_after_seconds
from signalpost.direct.answers import SignalIngestResponse, read_answer
from signalpost.errors import (
    EndpointError,
    NetworkError,
    ReceiverError,
    SendError,
    SendTimeout,
    SignalExpired,
    SignalRejected,
)

__all__ = ["judged"]

_ERRORS: dict[Failure, type[SendError]] = {
    Failure.TIMEOUT: SendTimeout,
    Failure.DNS: NetworkError,
    Failure.CONNECT: NetworkError,
    Failure.TLS: NetworkError,
    Failure.RESET: NetworkError,
    Failure.PROTOCOL: ReceiverError,
    Failure.EXPIRED: SignalExpired,
}


def judged(
    answer: Answer,
    verdict: Verdict,
    *,
    maybe_received: bool,
    timeout_seconds: float,
    now: datetime,
) -> SignalIngestResponse:
    """The receiver's answer, if it took the signal.

    maybe_received: whether this attempt or an earlier one may have arrived. timeout_seconds: what
    the attempt had. now: to read a Retry-After by. Raises the SendErrors and EndpointError.
    """
    if answer.status_code is None:
        _raise_failure(answer, maybe_received=maybe_received, timeout_seconds=timeout_seconds)
    told = read_answer(answer.status_code, answer.excerpt)
    taken = verdict.outcome is Outcome.DELIVERED
    # A 409 of one that has arrived before may well be worded as a refusal.
    if taken and (told.status != "rejected" or answer.status_code == 409):
        return told
    kind: type[SendError] = SignalRejected
    message = f"the receiver refuses the signal (HTTP {told.status_code}); `details` says why"
    if not taken and verdict.outcome not in (Outcome.REJECTED, Outcome.GONE):
        kind = ReceiverError
        message = (
            f"the receiver did not take the signal (HTTP {told.status_code}); "
            "send the same signal again a little later"
        )
    raise kind(
        message + (_MAYBE if maybe_received and kind is SignalRejected else ""),
        maybe_received=maybe_received,
        status_code=told.status_code,
        answer=told,
        retry_after_seconds=retry_after_seconds(
            answer.retry_after, now=now, cap_seconds=RETRY_AFTER_CAP_SECONDS
        ),
    )


_MAYBE = "; an earlier attempt may have arrived"


def _raise_failure(answer: Answer, *, maybe_received: bool, timeout_seconds: float) -> NoReturn:
    failure = answer.failure or Failure.INTERNAL
    if failure in (Failure.ADDRESS, Failure.URL):
        raise EndpointError(
            f"the receiver's address cannot be sent to ({answer.detail}); "
            "see OUTBOUND_ALLOW_NETWORKS"
        )
    kind = _ERRORS.get(failure, SendError)
    if kind is SignalExpired:
        raise SignalExpired(maybe_received=maybe_received)
    cause = f"no answer within {timeout_seconds:.3g} s" if kind is SendTimeout else answer.detail
    fate = "it may have arrived" if maybe_received else "it has not arrived"
    raise kind(
        f"the signal was not confirmed ({cause or failure.value}) and {fate}; send the same signal "
        "again, its idempotency key stays the same",
        maybe_received=maybe_received,
    )
