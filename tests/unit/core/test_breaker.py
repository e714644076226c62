from __future__ import annotations

from datetime import UTC, datetime, timedelta

from signalpost.core.breaker import (
    OPEN_AFTER_FAILURES,
    OPEN_AFTER_SECONDS,
    PROBE_AFTER_SECONDS,
    PROBE_CAP_SECONDS,
    Breaker,
    News,
    judge,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_it_opens_on_sustained_failure_only() -> None:
    """Many failures at once do not open it, nor few over a long time; both together do."""
    burst, told = judge(Breaker(), News(failed=100), now=NOW)
    assert (burst.opened_at, told) == (None, None)
    few, told = judge(Breaker(1, NOW), News(failed=1), now=later(1000))
    assert (few.opened_at, told) == (None, None)
    opened, told = judge(
        Breaker(OPEN_AFTER_FAILURES - 1, NOW), News(failed=1), now=later(OPEN_AFTER_SECONDS)
    )
    assert (opened.opened_at, told) == (later(OPEN_AFTER_SECONDS), "opened")
    assert opened.probe_at == later(OPEN_AFTER_SECONDS + PROBE_AFTER_SECONDS)


def test_one_answer_ends_the_run_of_failures() -> None:
    """A success or a refusal shows that somebody is there."""
    assert judge(Breaker(9, NOW), News(answered=True, failed=5), now=later(60)) == (Breaker(), None)


def test_a_failed_probe_doubles_the_wait_up_to_the_cap_and_a_success_closes() -> None:
    """Only probes move the next one; old attempts that fail meanwhile do not."""
    breaker, _ = judge(Breaker(), News(gone=True), now=NOW)
    same, told = judge(breaker, News(failed=3), now=later(1))
    assert (same.probe_at, told) == (breaker.probe_at, None)
    waits = []
    for _ in range(6):
        breaker, told = judge(breaker, News(failed=1, probe_failed=True), now=NOW)
        assert told is None
        assert breaker.probe_at is not None
        waits.append((breaker.probe_at - NOW).total_seconds())
    assert waits == [10, 20, 40, PROBE_CAP_SECONDS, PROBE_CAP_SECONDS, PROBE_CAP_SECONDS]
    assert judge(breaker, News(answered=True), now=later(9)) == (Breaker(), "closed")


def test_a_receiver_that_is_gone_opens_it_at_once() -> None:
    """410 needs no repetition."""
    breaker, told = judge(Breaker(), News(failed=1, gone=True), now=NOW)
    assert (breaker.opened_at, told) == (NOW, "opened")
