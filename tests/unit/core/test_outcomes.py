from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.core.outcomes import (
    REJECTING,
    Answer,
    Failure,
    Outcome,
    Phase,
    classify,
    retry_after_seconds,
)

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def status(code: int) -> Answer:
    return Answer(Phase.BODY, 0.1, status_code=code)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        *((code, Outcome.DELIVERED) for code in (200, 201, 202, 204, 299)),
        *((code, Outcome.REJECTED) for code in sorted(REJECTING)),
        (409, Outcome.REJECTED),
        (410, Outcome.GONE),
        *((code, Outcome.RETRY) for code in (408, 425, 429, 500, 502, 503, 504, 599)),
        *((code, Outcome.RETRY) for code in (401, 403, 404, 402, 418, 499)),
        *((code, Outcome.RETRY) for code in (301, 302, 303, 304, 307, 308)),
        *((code, Outcome.RETRY) for code in (100, 101, 600, 999)),
    ],
)
def test_every_status_has_its_outcome(code: int, outcome: Outcome) -> None:
    """Every status code means what the table of outcomes says, and costs a retry."""
    verdict = classify(status(code), maybe_received=False)
    assert verdict.outcome is outcome
    assert verdict.reason == f"http_{code}"
    assert verdict.counted


def test_a_conflict_after_an_unproven_attempt_means_delivered() -> None:
    """409 says that the receiver has it already, where an earlier attempt may have arrived."""
    assert classify(status(409), maybe_received=True).outcome is Outcome.DELIVERED
    assert classify(status(409), maybe_received=False).outcome is Outcome.REJECTED


@pytest.mark.parametrize(
    ("code", "unproven"),
    [(408, True), (500, True), (503, True), (101, True), (429, False), (404, False), (302, False)],
)
def test_only_answers_without_proof_of_refusal_leave_a_doubt(code: int, unproven: bool) -> None:
    """408 and 5xx may hide an execution; other refusals are proof that nothing was done."""
    assert classify(status(code), maybe_received=False).maybe_received is unproven


@pytest.mark.parametrize("phase", [Phase.SENT, Phase.HEADERS, Phase.BODY])
@pytest.mark.parametrize("failure", list(Failure))
def test_whatever_fails_after_the_first_byte_is_unknown(phase: Phase, failure: Failure) -> None:
    """A request of which a byte may have left, without a status, may have been executed."""
    verdict = classify(Answer(phase, 1.0, failure=failure), maybe_received=False)
    assert verdict.outcome is Outcome.UNKNOWN
    assert verdict.counted
    assert verdict.maybe_received


def test_a_status_that_arrived_counts_although_the_body_failed() -> None:
    """The status line decides; a body that breaks off afterwards changes nothing."""
    broken = Answer(Phase.BODY, 1.0, status_code=201, failure=Failure.RESET)
    assert classify(broken, maybe_received=False).outcome is Outcome.DELIVERED


@pytest.mark.parametrize(
    ("failure", "outcome", "counted"),
    [
        (Failure.DNS, Outcome.RETRY, True),
        (Failure.CONNECT, Outcome.RETRY, True),
        (Failure.TLS, Outcome.RETRY, True),
        (Failure.ADDRESS, Outcome.RETRY, True),
        (Failure.TIMEOUT, Outcome.RETRY, True),
        (Failure.RESET, Outcome.RETRY, True),
        (Failure.PROTOCOL, Outcome.RETRY, True),
        (Failure.URL, Outcome.RETRY, True),
        (Failure.INTERNAL, Outcome.RETRY, True),
        (Failure.EXPIRED, Outcome.EXPIRED, False),
        (Failure.LEASE, Outcome.RELEASED, False),
        (Failure.SHUTDOWN, Outcome.RELEASED, False),
        (Failure.CLOCK, Outcome.RELEASED, False),
        (Failure.SECRET, Outcome.RELEASED, False),
        (Failure.LOST, Outcome.UNKNOWN, True),
    ],
)
def test_every_failure_before_the_first_byte_has_its_outcome(
    failure: Failure, outcome: Outcome, counted: bool
) -> None:
    """Before the first byte nothing was delivered; only what tried the receiver costs a retry."""
    verdict = classify(Answer(Phase.CONNECT, 1.0, failure=failure), maybe_received=False)
    assert (verdict.outcome, verdict.counted) == (outcome, counted)
    assert verdict.maybe_received is (failure is Failure.LOST)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("999999", 3600.0),
        ("9" * 5000, 3600.0),
        ("0" * 5000 + "7", 7.0),
        ("Mon, 05 Jan 2026 12:00:30 GMT", 30.0),
        ("Mon, 05 Jan 2026 11:00:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Mon, 05 Jan 2026 12:00:30", None),
        ("٣", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, seconds: float) -> None:
    """Retry-After is whole seconds or an HTTP date, capped; nonsense is no header at all."""
    assert retry_after_seconds(value, now=NOW, cap_seconds=3600) == seconds


@given(st.text())
def test_retry_after_never_raises(value: str) -> None:
    """A hostile Retry-After gives a bounded wait or nothing, never an exception."""
    found = retry_after_seconds(value, now=NOW, cap_seconds=3600)
    assert found is None or 0 <= found <= 3600
