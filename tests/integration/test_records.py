from __future__ import annotations

import threading
from dataclasses import replace
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, text

from signalpost.core.lifecycle import Decision, Status
from signalpost.core.outcomes import Answer, Failure, Outcome, Phase, Verdict
from signalpost.repository import claims, naming, records
from signalpost.repository.claimed import Claim
from signalpost.repository.recorded import Record
from tests import rows

WORKER = UUID(int=7)

ACCEPTED = (
    Answer(Phase.BODY, 0.2, status_code=201, excerpt=b"\x00ok\xff"),
    Verdict(Outcome.DELIVERED, "http_201", counted=True, maybe_received=False),
    Decision(Status.DELIVERED),
)
REFUSED = (
    Answer(Phase.BODY, 0.2, status_code=503),
    Verdict(Outcome.RETRY, "http_503", counted=True, maybe_received=True),
    Decision(Status.PENDING, "http_503", 7.5),
)
DEAD = (
    Answer(Phase.BODY, 0.2, status_code=422),
    Verdict(Outcome.REJECTED, "http_422", counted=True, maybe_received=False),
    Decision(Status.DEAD, "rejected"),
)
LOST = (
    Answer(Phase.NONE, 0.0, failure=Failure.LOST),
    Verdict(Outcome.UNKNOWN, "claim_lost", counted=True, maybe_received=True),
    Decision(Status.PENDING, "claim_lost", 0.0),
)
RELEASED = (
    Answer(Phase.NONE, 0.0, failure=Failure.SHUTDOWN),
    Verdict(Outcome.RELEASED, "shutdown", counted=False, maybe_received=False),
    Decision(Status.PENDING, "shutdown", 0.0),
)


def claimed(connection: Connection) -> Claim:
    rows.add_delivery(connection)
    (claim,) = claims.claim_due(connection, worker_id=WORKER, limit=1).claims
    return claim


def news(claim: Claim, what: tuple[Answer, Verdict, Decision]) -> Record:
    answer, verdict, decision = what
    return Record(
        delivery_id=claim.delivery_id,
        claim_id=claim.claim_id,
        attempt=claim.attempt,
        worker_id=WORKER,
        started_at=claim.claimed_at,
        answer=answer,
        verdict=verdict,
        decision=decision,
        claim=claim,
    )


def replay(connection: Connection, delivery_id: UUID) -> None:
    connection.execute(
        text(
            "UPDATE signalpost.deliveries SET status = 'pending', reason = NULL, spent = 0,"
            " finished_at = NULL, next_attempt_at = statement_timestamp(), replays = replays + 1"
            " WHERE id = :id"
        ),
        {"id": delivery_id},
    )


def test_an_accepted_attempt_makes_its_delivery_delivered(engine: Engine) -> None:
    """The attempt is written with its bytes as they came, the claim is gone, no alert is raised."""
    with engine.begin() as connection:
        claim = claimed(connection)
        result = records.record(connection, [news(claim, ACCEPTED)])[claim.claim_id]
        row = rows.delivery(connection, claim.delivery_id)
        (attempt,) = rows.attempts(connection, claim.delivery_id)
        assert rows.alerts(connection) == []
    assert (result.applied, result.late, result.status) == (True, False, Status.DELIVERED)
    assert (row["status"], row["claim_id"], row["worker_id"]) == ("delivered", None, None)
    assert row["finished_at"] is not None
    assert row["spent"] == 1
    assert (attempt["number"], attempt["phase"], attempt["outcome"]) == (1, "body", "delivered")
    assert (attempt["status_code"], attempt["excerpt"]) == (201, b"\x00ok\xff")


def test_a_retry_is_due_after_its_delay_in_database_time(engine: Engine) -> None:
    """The next attempt's time is committed with the record, so no message need survive."""
    with engine.begin() as connection:
        claim = claimed(connection)
        before = rows.database_now(connection)
        records.record(connection, [news(claim, REFUSED)], now=before)
        row = rows.delivery(connection, claim.delivery_id)
    assert (row["status"], row["reason"], row["finished_at"]) == ("pending", "http_503", None)
    assert (row["next_attempt_at"] - before).total_seconds() == 7.5
    assert (row["spent"], row["maybe_received"]) == (1, True)


def test_a_dead_letter_and_its_alert_are_one_transaction(engine: Engine) -> None:
    """A rejected attempt writes the alert in the same transaction; rolled back, both are gone."""
    with engine.begin() as connection:
        claim = claimed(connection)
    with engine.connect() as connection:
        records.record(connection, [news(claim, DEAD)])
        connection.rollback()
        assert rows.alerts(connection) == []
        assert rows.delivery(connection, claim.delivery_id)["status"] == "sending"
    with engine.begin() as connection:
        result = records.record(connection, [news(claim, DEAD)])[claim.claim_id]
        (alert,) = rows.alerts(connection)
        row = rows.delivery(connection, claim.delivery_id)
    assert (row["status"], row["reason"]) == ("dead", "rejected")
    assert (alert["kind"], alert["delivery_id"]) == ("dead", claim.delivery_id)
    assert result.alert_id == alert["id"]


def test_the_record_of_an_old_claim_does_not_move_the_delivery(engine: Engine) -> None:
    """Fencing: once a claim was taken back, only its attempt is completed, as late news."""
    with engine.begin() as connection:
        old = claimed(connection)
        records.record(connection, [news(old, LOST)])
        (new,) = claims.claim_due(connection, worker_id=WORKER, limit=1).claims
        result = records.record(connection, [news(old, DEAD)])[old.claim_id]
        row = rows.delivery(connection, old.delivery_id)
        (attempt,) = rows.attempts(connection, old.delivery_id)
        assert rows.alerts(connection) == []
    assert (result.applied, result.late) == (False, True)
    assert (row["status"], row["claim_id"]) == ("sending", new.claim_id)
    assert (attempt["outcome"], attempt["status_code"], attempt["late"]) == ("rejected", 422, True)


def test_a_late_success_makes_the_delivery_delivered_whatever_it_had_become(engine: Engine) -> None:
    """A success from an old claim ends a newer claim; the newer one's failure changes nothing."""
    with engine.begin() as connection:
        old = claimed(connection)
        records.record(connection, [news(old, LOST)])
        (new,) = claims.claim_due(connection, worker_id=WORKER, limit=1).claims
        late = records.record(connection, [news(old, ACCEPTED)])[old.claim_id]
        after = records.record(connection, [news(new, DEAD)])[new.claim_id]
        row = rows.delivery(connection, old.delivery_id)
        numbers = [
            (item["number"], item["outcome"], item["late"])
            for item in rows.attempts(connection, old.delivery_id)
        ]
        assert rows.alerts(connection) == []
    assert (late.applied, late.late, late.status) == (True, True, Status.DELIVERED)
    assert (after.applied, after.status) == (False, Status.DELIVERED)
    assert row["status"] == "delivered"
    assert numbers == [(1, "delivered", True), (2, "rejected", True)]


def test_a_late_success_of_a_dead_letter_corrects_its_alert(engine: Engine) -> None:
    """The operator who was told that it died is told that it arrived."""
    with engine.begin() as connection:
        old = claimed(connection)
        records.record(connection, [news(old, LOST)])
        (new,) = claims.claim_due(connection, worker_id=WORKER, limit=1).claims
        records.record(connection, [news(new, DEAD)])
        records.record(connection, [news(old, ACCEPTED)])
        kinds = [alert["kind"] for alert in rows.alerts(connection)]
        row = rows.delivery(connection, old.delivery_id)
    assert kinds == ["dead", "corrected"]
    assert row["status"] == "delivered"


def test_recording_twice_changes_nothing_more(engine: Engine) -> None:
    """A record repeated after a connection lost at commit leaves one attempt and one alert."""
    with engine.begin() as connection:
        claim = claimed(connection)
        records.record(connection, [news(claim, DEAD)])
        first = dict(rows.delivery(connection, claim.delivery_id))
        again = records.record(connection, [news(claim, DEAD)])[claim.claim_id]
        assert dict(rows.delivery(connection, claim.delivery_id)) == first
        assert len(rows.attempts(connection, claim.delivery_id)) == 1
        assert len(rows.alerts(connection)) == 1
    assert not again.applied


def test_a_known_attempt_is_never_overwritten(engine: Engine) -> None:
    """What is known of an attempt stays: neither a loss nor another answer comes over it."""
    with engine.begin() as connection:
        for first, second in ((REFUSED, LOST), (REFUSED, ACCEPTED), (ACCEPTED, REFUSED)):
            claim = claimed(connection)
            records.record(connection, [news(claim, first)])
            (known,) = rows.attempts(connection, claim.delivery_id)
            records.record(connection, [news(claim, second)])
            assert list(rows.attempts(connection, claim.delivery_id)) == [known]


def test_a_claim_given_back_costs_none_of_the_retries(engine: Engine) -> None:
    """A released claim leaves a trail, but the budget is untouched and the number not reused."""
    with engine.begin() as connection:
        claim = claimed(connection)
        records.record(connection, [news(claim, RELEASED)])
        row = rows.delivery(connection, claim.delivery_id)
        (new,) = claims.claim_due(connection, worker_id=WORKER, limit=1).claims
        (attempt,) = rows.attempts(connection, claim.delivery_id)
    assert (row["status"], row["spent"]) == ("pending", 0)
    assert (attempt["outcome"], attempt["counted"]) == ("released", False)
    assert (new.attempt, new.spent) == (2, 0)


def test_what_may_have_been_received_once_stays_so(engine: Engine) -> None:
    """An attempt that surely did not arrive proves nothing about the one before it."""
    with engine.begin() as connection:
        claim = claimed(connection)
        records.record(connection, [news(claim, LOST)])
        (again,) = naming.claim_by_id(connection, [claim.delivery_id], worker_id=WORKER).claims
        records.record(connection, [news(again, RELEASED)])
        assert rows.delivery(connection, claim.delivery_id)["maybe_received"]


def test_a_group_records_many_at_once_and_leaves_out_what_was_deleted(engine: Engine) -> None:
    """Each record of a group has its own result; a delivery pruned meanwhile has none."""
    with engine.begin() as connection:
        many = [claimed(connection) for _ in range(20)]
        gone = replace(many[0], delivery_id=uuid4(), claim_id=uuid4())
        group = [news(claim, ACCEPTED) for claim in many] + [news(gone, ACCEPTED)]
        results = records.record(connection, group)
    assert set(results) == {claim.claim_id for claim in many}
    assert all(result.applied for result in results.values())


def test_opposite_orders_of_the_same_deliveries_never_deadlock(engine: Engine) -> None:
    """Groups of two workers about the same rows wait for each other instead of deadlocking."""
    with engine.begin() as connection:
        many = [claimed(connection) for _ in range(30)]
    failures: list[BaseException] = []

    def work(order: list[Claim]) -> None:
        try:
            for _ in range(20):
                with engine.begin() as connection:
                    records.record(connection, [news(claim, REFUSED) for claim in order])
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(order,)) for order in (many, list(reversed(many)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_a_late_success_after_a_replay_corrects_the_alert_as_well(engine: Engine) -> None:
    """The operator who was told that it died, and replayed it, is told that it had arrived."""
    with engine.begin() as connection:
        old = claimed(connection)
        records.record(connection, [news(old, LOST)])
        (new,) = claims.claim_due(connection, worker_id=WORKER, limit=1).claims
        records.record(connection, [news(new, DEAD)])
        replay(connection, old.delivery_id)
        records.record(connection, [news(old, ACCEPTED)])
        kinds = [alert["kind"] for alert in rows.alerts(connection)]
    assert kinds == ["dead", "corrected"]


def test_a_late_success_that_nobody_was_alarmed_about_raises_no_alert(engine: Engine) -> None:
    """Without an alert before, there is nothing to correct."""
    with engine.begin() as connection:
        old = claimed(connection)
        records.record(connection, [news(old, LOST)])
        records.record(connection, [news(old, ACCEPTED)])
        assert rows.alerts(connection) == []


def test_a_replay_that_succeeds_by_itself_raises_no_correction(engine: Engine) -> None:
    """Only a success that came late contradicts what the operator was told."""
    with engine.begin() as connection:
        first = claimed(connection)
        records.record(connection, [news(first, DEAD)])
        replay(connection, first.delivery_id)
        (second,) = claims.claim_due(connection, worker_id=WORKER, limit=1).claims
        records.record(connection, [news(second, ACCEPTED)])
        kinds = [alert["kind"] for alert in rows.alerts(connection)]
    assert kinds == ["dead"]
