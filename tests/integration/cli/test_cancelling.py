from __future__ import annotations

import json
from uuid import UUID

import pytest
from sqlalchemy import Engine, select, text

from signalpost.models import AuditRow
from tests import rows
from tests.integration.cli.operators import LINE, Operator


@pytest.fixture
def three(operator: Operator, endpoint: str) -> list[str]:
    """Three pending deliveries to desk, of AAPL, IBM and MSFT; their ids in this order."""
    lines = [{**LINE, "instrument": name} for name in ("AAPL", "IBM", "MSFT")]
    operator.run("send", operator.file(*lines))
    listed = operator.json("deliveries", "list")
    return [line["delivery_id"] for line in sorted(listed, key=lambda line: line["instrument"])]


def statuses(engine: Engine) -> dict[str, str]:
    with engine.connect() as conn:
        found = conn.execute(
            text(
                "SELECT s.instrument, d.status FROM signalpost.deliveries d"
                " JOIN signalpost.signals s ON s.id = d.signal_id"
            )
        )
        return {row.instrument: row.status for row in found}


def test_a_cancellation_by_id_is_done_told_and_audited(
    operator: Operator, three: list[str], engine: Engine
) -> None:
    """It says prevented, audits the account and the reason, and leaves the others."""
    done = operator.run("cancel", three[0][:8], "--reason", "wrong size")

    assert done.exit_code == 0
    assert done.stdout.splitlines()[1].split() == [
        *(three[0], "AAPL", "buy", "desk", "pending", "prevented", "-")
    ]
    assert statuses(engine) == {"AAPL": "cancelled", "IBM": "pending", "MSFT": "pending"}
    with engine.connect() as conn:
        entry = conn.execute(select(AuditRow.actor, AuditRow.why).order_by(AuditRow.id)).all()[-1]
    assert entry.why == "wrong size"
    assert entry.actor.startswith("user ")


def test_what_was_sent_or_may_be_is_told_with_exit_code_1(
    operator: Operator, three: list[str], engine: Engine
) -> None:
    """already_sent and unknown are failures of a cancellation, in words and in JSON."""
    with engine.begin() as conn:
        conn.execute(
            text(
                "UPDATE signalpost.deliveries SET status = 'delivered', next_attempt_at = NULL,"
                " finished_at = clock_timestamp() WHERE id = :id"
            ),
            {"id": three[0]},
        )
        conn.execute(
            text(
                "UPDATE signalpost.deliveries SET status = 'sending', next_attempt_at = NULL,"
                " claim_id = gen_random_uuid(), worker_id = gen_random_uuid(),"
                " claimed_at = clock_timestamp() WHERE id = :id"
            ),
            {"id": three[1]},
        )

    told = operator.run("cancel", *three, "--dry-run")
    done = operator.run("cancel", *three, "--json")

    assert (told.exit_code, done.exit_code) == (1, 1)
    assert "the receiver accepted it" in told.stdout
    assert "an attempt is under way" in told.stdout
    assert "dry run" in told.stderr
    answers = {answer["delivery_id"]: answer for answer in json.loads(done.stdout)}
    assert [answers[one]["answer"] for one in three] == ["already_sent", "unknown", "prevented"]
    with engine.begin() as conn:
        assert rows.delivery(conn, UUID(three[1]))["wanted_end"] == "cancelled"


def test_a_filter_cancels_what_it_means_and_no_more(
    operator: Operator, three: list[str], engine: Engine
) -> None:
    """A filter means what is pending or being sent; a dry run only counts."""
    dry = operator.json("cancel", "--instrument", "IBM", "--dry-run")
    before = statuses(engine)
    done = operator.json("cancel", "--instrument", "IBM")
    nothing = operator.run("cancel", "--instrument", "IBM")
    young = operator.json("cancel", "--older-than", "1h", "--endpoint", "desk")

    group = {"endpoint": "desk", "was": "pending", "answer": "prevented", "number": 1}
    assert dry == {"dry_run": True, "cancelled": 1, "groups": [group], "not_prevented": []}
    assert before["IBM"] == "pending"
    assert done == {**dry, "dry_run": False}
    assert statuses(engine) == {"AAPL": "pending", "IBM": "cancelled", "MSFT": "pending"}
    assert (nothing.exit_code, nothing.stdout) == (
        0,
        "no delivery that is pending or being sent matches\n",
    )
    assert young["cancelled"] == 0


def test_a_signal_s_id_means_all_its_deliveries(operator: Operator, endpoint: str) -> None:
    """Cancelling a signal withdraws it from every endpoint."""
    operator.run("endpoint", "add", "other", "http://127.0.0.1:9/")
    operator.run("send", operator.file(LINE))
    [first, second] = operator.json("deliveries", "list")

    answers = operator.json("cancel", first["signal_id"])

    assert {answer["delivery_id"] for answer in answers} == {
        first["delivery_id"],
        second["delivery_id"],
    }
    assert {answer["answer"] for answer in answers} == {"prevented"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "say which"),
        (("4f1c9a52", "--all"), "only one of these"),
        (("--all", "--instrument", "AAPL"), "only one of these"),
        (("4f1c",), "too short to act upon"),
        (("--instrument", "aapl"), "no instrument"),
        (("--since", "1m", "--until", "5m"), "--since must be before --until"),
        (("--since", "999999999d"), "before all times"),
    ],
)
def test_what_could_mean_the_wrong_ones_is_refused(
    bystander: Operator, words: tuple[str, ...], told: str
) -> None:
    """Nothing, two ways at once, half an id or an impossible name change nothing."""
    result = bystander.run("cancel", *words)

    assert result.exit_code == 2
    assert told in result.stderr


def test_an_endpoint_that_never_was_is_a_slip(bystander: Operator) -> None:
    """A filter by a name that nobody knows is an error, not an empty answer."""
    result = bystander.run("cancel", "--endpoint", "dekc")

    assert result.exit_code == 1
    assert "there is no endpoint named 'dekc'" in result.stderr


def test_many_are_asked_about_and_done_in_batches(
    operator: Operator, endpoint: str, engine: Engine
) -> None:
    """More than 100 want --yes; then all go, however many batches that takes."""
    lines = [{**LINE, "reason": f"signal {n}"} for n in range(601)]
    operator.run("send", operator.file(*lines))

    refused = operator.run("cancel", "--all")
    unchanged = operator.json("deliveries", "list", "--status", "cancelled")
    done = operator.json("cancel", "--all", "--yes")

    assert refused.exit_code == 1
    assert "601 deliveries would be cancelled; --yes does it" in refused.stderr
    assert unchanged == []
    assert done["cancelled"] == 601
    assert (
        len(operator.json("deliveries", "list", "--status", "cancelled", "--limit", "700")) == 601
    )
