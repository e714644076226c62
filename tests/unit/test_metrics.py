"""What is counted and how it is served, without a database."""

from __future__ import annotations

import itertools
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from signalpost.core.lifecycle import Decision, Status
from signalpost.core.outcomes import Answer, Failure, Outcome, Phase, Verdict
from signalpost.errors import SettingError
from signalpost.metrics import Counting, MetricsServer, OutboxGauges
from signalpost.repository.claimed import Claim
from signalpost.repository.recorded import Record, Recorded

NOW = datetime(2026, 3, 2, 21, tzinfo=UTC)
CLAIM = Claim(
    delivery_id=UUID(int=1),
    claim_id=UUID(int=2),
    worker_id=UUID(int=3),
    enqueued_at=NOW - timedelta(seconds=3),
    claimed_at=NOW,
    attempt=1,
    spent=0,
    maybe_received=False,
    replays=0,
    expires_at=None,
    signal_id=UUID(int=4),
    producer_id="tests",
    instrument="AAPL",
    body=b"{}",
    endpoint_id=1,
    endpoint="desk",
    url="https://desk.example/private?token=1",
    secret_ciphertext=b"sealed",
    secret_version=1,
    previous_secret_ciphertext=None,
    timeout_seconds=None,
    max_retries=None,
    retry_delay_seconds=None,
    on_unknown="retry",
)


def record(outcome: Outcome, answer: Answer, *, retry: float | None = None) -> Record:
    status = Status.PENDING if retry is not None else Status.DELIVERED
    return Record(
        delivery_id=CLAIM.delivery_id,
        claim_id=CLAIM.claim_id,
        attempt=1,
        worker_id=CLAIM.worker_id,
        started_at=NOW,
        answer=answer,
        verdict=Verdict(outcome, "", counted=True, maybe_received=False),
        decision=Decision(status, delay_seconds=retry),
    )


APPLIED = Recorded(applied=True, late=False, status=Status.PENDING, alert_id=None)


def answer(code: int | None = None, failure: Failure | None = None) -> Answer:
    return Answer(Phase.BODY, 0.2, status_code=code, failure=failure)


def value(counting: Counting, name: str, **labels: str) -> float | None:
    return counting.registry.get_sample_value(name, labels)


def test_an_accepted_attempt_is_counted_with_its_times() -> None:
    """It counts once, by outcome and status, with its duration and the time since enqueueing."""
    counting = Counting()
    counting.attempt(CLAIM, record(Outcome.DELIVERED, answer(201)), APPLIED, NOW)
    assert value(counting, "signals_posted_total", result="delivered", code="201") == 1
    assert value(counting, "signal_post_duration_seconds_sum") == 0.2
    assert value(counting, "signal_acceptance_seconds_sum") == 3
    assert value(counting, "retries_total", operation="deliver") == 0


def test_a_replay_says_nothing_of_the_usual_time_to_acceptance() -> None:
    """A delivery that a person replayed hours later does not count as slow."""
    counting = Counting()
    replayed = replace(CLAIM, replays=1)
    counting.attempt(replayed, record(Outcome.DELIVERED, answer(201)), APPLIED, NOW)
    assert value(counting, "signal_acceptance_seconds_count") == 0


def test_a_planned_retry_is_counted() -> None:
    """An attempt to be repeated counts as posted and as a retry, late news only as posted."""
    counting = Counting()
    item = record(Outcome.RETRY, answer(failure=Failure.TIMEOUT), retry=5.0)
    counting.attempt(CLAIM, item, APPLIED, NOW)
    counting.attempt(CLAIM, item, replace(APPLIED, applied=False), NOW)
    counting.attempt(CLAIM, item, None, NOW)
    assert value(counting, "signals_posted_total", result="retry", code="timeout") == 3
    assert value(counting, "retries_total", operation="deliver") == 1


def test_a_claim_given_back_was_no_attempt() -> None:
    """What was released before anything was tried is not counted."""
    counting = Counting()
    counting.attempt(CLAIM, record(Outcome.RELEASED, answer(failure=Failure.LEASE)), APPLIED, NOW)
    assert value(counting, "signal_post_duration_seconds_count") == 0


def test_alerts_are_counted_as_sent_or_to_be_tried_again() -> None:
    """Only a message with a receipt counts as sent."""
    counting = Counting()
    counting.alert(sent=True)
    counting.alert(sent=False)
    assert value(counting, "alerts_sent_total") == 1
    assert value(counting, "retries_total", operation="alert") == 1


def test_no_receiver_can_make_series_without_end() -> None:
    """Whatever statuses a receiver invents, there are few codes, and no label is private."""
    counting = Counting()
    for code in range(100, 1100):
        counting.attempt(CLAIM, record(Outcome.RETRY, answer(code)), APPLIED, NOW)
    for outcome, failure in itertools.product(Outcome, Failure):
        counting.attempt(CLAIM, record(outcome, answer(failure=failure)), APPLIED, NOW)
    codes = {
        sample.labels["code"]
        for family in counting.registry.collect()
        for sample in family.samples
        if sample.name == "signals_posted_total"
    }
    assert {"200", "503", "5xx", "other", "timeout"} <= codes
    assert len(codes) < 100


@contextmanager
def serving(
    counting: Counting, *troubles: str, address: str = "127.0.0.1"
) -> Iterator[MetricsServer]:
    server = MetricsServer(counting.registry, lambda: troubles, address=address, port=0)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{server.port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_metrics_are_served_in_prometheus_form() -> None:
    """A scrape can be parsed, and holds what was counted and the process's own figures."""
    counting = Counting()
    counting.attempt(CLAIM, record(Outcome.DELIVERED, answer(201)), APPLIED, NOW)
    with serving(counting) as server:
        status, page = get(server, "/metrics")
    names = {family.name for family in text_string_to_metric_families(page)}
    assert status == 200
    assert {"signals_posted", "signal_post_duration_seconds", "process_resident_memory_bytes"} <= (
        names
    )
    assert not [name for name in names if name.endswith("_created")]
    assert "desk.example" not in page


def test_healthz_says_what_is_wrong() -> None:
    """It answers 200 while nothing is wrong, and 503 with each trouble in a line."""
    with serving(Counting()) as server:
        assert get(server, "/healthz") == (200, '{"healthy": true, "troubles": []}\n')
    with serving(Counting(), "the database is away", "more") as server:
        status, page = get(server, "/healthz")
    assert status == 503
    assert json.loads(page) == {"healthy": False, "troubles": ["the database is away", "more"]}


def test_other_pages_are_not_there() -> None:
    """Nothing but the two pages is served, and a client that says nothing holds up nobody."""
    with serving(Counting()) as server, socket.create_connection(("127.0.0.1", server.port)):
        assert get(server, "/")[0] == 404


def test_a_used_port_is_one_clear_line() -> None:
    """The line names the port and both ways out."""
    with serving(Counting()) as first:
        second = MetricsServer(Counting().registry, list, address="127.0.0.1", port=first.port)
        with pytest.raises(SettingError, match=rf"port {first.port} is in use; .*PROCESS_INDEX"):
            second.start()


def test_a_foreign_address_is_one_clear_line() -> None:
    """An address that this machine does not have is named."""
    server = MetricsServer(Counting().registry, list, address="192.0.2.1", port=0)
    with pytest.raises(SettingError, match=r"METRICS_ADDRESS 192\.0\.2\.1 is no address of this"):
        server.start()


def test_gauges_say_what_cannot_be_read() -> None:
    """With the database and Redis away a scrape still works, and says so."""
    families = {
        family.name: family.samples[0].value
        for family in OutboxGauges(lambda: "away", lambda: None).collect()
    }
    assert families == {"signalpost_database_up": 0, "signalpost_redis_up": 0}
