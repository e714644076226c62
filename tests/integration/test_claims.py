from __future__ import annotations

import threading
from dataclasses import fields
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import Engine, event, text

from signalpost.repository import claims, expiring, naming
from signalpost.repository.claimed import Claim
from signalpost.repository.taking import CLAIM_COLUMNS
from tests import rows

WORKER = UUID(int=7)


def test_a_claim_moves_a_due_delivery_to_sending_with_a_fresh_fencing_token(engine: Engine) -> None:
    """A claim brings all that an attempt needs and leaves the row held by this worker."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection, name="broker", url="https://example.org/x?y=1")
        signal_id = rows.add_signal(connection, body=b'{"a":1}', instrument="IBM")
        delivery_id = rows.add_delivery(connection, signal_id=signal_id, endpoint_id=endpoint_id)
        found = claims.claim_due(connection, worker_id=WORKER, limit=10)
        row = rows.delivery(connection, delivery_id)
    (claim,) = found.claims
    assert (claim.delivery_id, claim.signal_id, claim.endpoint) == (
        delivery_id,
        signal_id,
        "broker",
    )
    assert (claim.body, claim.instrument, claim.url) == (
        b'{"a":1}',
        "IBM",
        "https://example.org/x?y=1",
    )
    assert (claim.attempt, claim.spent, claim.maybe_received) == (1, 0, False)
    assert (row["status"], row["claim_id"], row["worker_id"]) == ("sending", claim.claim_id, WORKER)
    assert row["next_attempt_at"] is None


def test_the_columns_of_a_claim_stand_in_the_order_of_its_fields(engine: Engine) -> None:
    """Rows become claims by position, so names and order are the same."""
    nothing = f"""SELECT {CLAIM_COLUMNS} FROM signalpost.deliveries d, signalpost.signals s,
        signalpost.endpoints e WHERE false"""
    with engine.connect() as connection:
        names = list(connection.execute(text(nothing)).keys())
    assert names == [field.name for field in fields(Claim)]


def test_a_claim_by_id_takes_one_statement_where_nothing_governs(engine: Engine) -> None:
    """The usual single costs no look at endpoints and limits."""
    statements: list[str] = []
    with engine.begin() as connection:
        plain = rows.add_delivery(connection)
        event.listen(
            connection, "before_cursor_execute", lambda *told: statements.append(str(told[2]))
        )
        found = naming.claim_by_id(connection, [plain], worker_id=WORKER)
    assert [claim.delivery_id for claim in found.claims] == [plain]
    assert len(statements) == 1


def test_what_is_not_due_or_not_pending_is_not_claimed(engine: Engine) -> None:
    """Only pending rows whose time has come are taken, oldest due first, up to the limit."""
    with engine.begin() as connection:
        now = rows.database_now(connection)
        later = rows.add_delivery(connection, next_attempt_at=now + timedelta(seconds=60))
        old = rows.add_delivery(connection, next_attempt_at=now - timedelta(seconds=60))
        new = rows.add_delivery(connection, next_attempt_at=now - timedelta(seconds=1))
        rows.add_delivery(connection, status="delivered", next_attempt_at=None, finished_at=now)
        first = claims.claim_due(connection, worker_id=WORKER, limit=1)
        rest = claims.claim_due(connection, worker_id=WORKER, limit=10)
        when_due = claims.claim_due(
            connection, worker_id=WORKER, limit=10, now=now + timedelta(seconds=61)
        )
    assert [claim.delivery_id for claim in first.claims] == [old]
    assert [claim.delivery_id for claim in rest.claims] == [new]
    assert [claim.delivery_id for claim in when_due.claims] == [later]


def test_the_rescue_takes_only_what_has_been_due_for_a_while(engine: Engine) -> None:
    """Rows overdue by less than the rescue's patience are left to their messages."""
    with engine.begin() as connection:
        now = rows.database_now(connection)
        rows.add_delivery(connection, next_attempt_at=now - timedelta(seconds=1))
        overdue = rows.add_delivery(connection, next_attempt_at=now - timedelta(seconds=3))
        found = claims.claim_due(connection, worker_id=WORKER, limit=10, overdue_seconds=2, now=now)
    assert [claim.delivery_id for claim in found.claims] == [overdue]


def test_a_delivery_past_its_expiry_is_ended_with_an_alert_and_never_claimed(
    engine: Engine,
) -> None:
    """A claim that meets a row with less than 100 ms of life ends it as expired."""
    with engine.begin() as connection:
        now = rows.database_now(connection)
        dying = rows.add_delivery(
            connection, next_attempt_at=now, expires_at=now + timedelta(milliseconds=90)
        )
        living = rows.add_delivery(
            connection, next_attempt_at=now, expires_at=now + timedelta(milliseconds=900)
        )
        immortal = rows.add_delivery(connection, next_attempt_at=now, expires_at=None)
        found = claims.claim_due(
            connection, worker_id=WORKER, limit=10, now=now + timedelta(milliseconds=1)
        )
        (alert,) = rows.alerts(connection)
        assert rows.delivery(connection, dying)["status"] == "expired"
    assert {claim.delivery_id for claim in found.claims} == {living, immortal}
    assert [expired.delivery_id for expired in found.expired] == [dying]
    assert (alert["kind"], alert["delivery_id"]) == ("expired", dying)
    assert found.expired[0].alert_id == alert["id"]


def test_a_claim_by_id_says_why_it_did_not_take_the_others(engine: Engine) -> None:
    """For each id asked for there is a claim, an expiry, or how the delivery stands."""
    with engine.begin() as connection:
        now = rows.database_now(connection)
        due = rows.add_delivery(connection, next_attempt_at=now - timedelta(seconds=1))
        later = rows.add_delivery(connection, next_attempt_at=now + timedelta(seconds=9))
        done = rows.add_delivery(connection, status="delivered", next_attempt_at=None)
        held = rows.add_delivery(
            connection, status="sending", claim_id=uuid4(), worker_id=uuid4(), claimed_at=now
        )
        over = rows.add_delivery(
            connection, next_attempt_at=now, expires_at=now - timedelta(seconds=1)
        )
        nothing = uuid4()
        asked = [due, later, done, held, over, nothing]
        found = naming.claim_by_id(connection, asked, worker_id=WORKER, now=now)
        again = naming.claim_by_id(connection, [due], worker_id=WORKER, now=now)
    assert [claim.delivery_id for claim in found.claims] == [due]
    assert [expired.delivery_id for expired in found.expired] == [over]
    stood = {item.delivery_id: item for item in found.unclaimed}
    assert {key: value.status for key, value in stood.items()} == {
        later: "pending",
        done: "delivered",
        held: "sending",
        nothing: None,
    }
    due_in = stood[later].due_in_seconds
    assert due_in is not None
    assert 8.9 < due_in <= 9
    assert again.claims == []
    assert again.unclaimed[0].status == "sending"


def test_two_workers_at_once_never_claim_the_same_delivery(engine: Engine) -> None:
    """Claims of many threads at once share the due rows out, each to exactly one."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection)
        expected = {rows.add_delivery(connection, endpoint_id=endpoint_id) for _ in range(200)}
    taken: list[UUID] = []
    lock = threading.Lock()

    def work() -> None:
        while True:
            with engine.begin() as connection:
                found = claims.claim_due(connection, worker_id=uuid4(), limit=7)
            if not found.claims:
                return
            with lock:
                taken.extend(claim.delivery_id for claim in found.claims)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(taken) == len(set(taken))
    assert set(taken) == expected


def test_pending_rows_past_their_expiry_are_ended_although_not_yet_due(engine: Engine) -> None:
    """A retry that waits beyond its expiry is ended by the look for expired rows, with an alert."""
    with engine.begin() as connection:
        now = rows.database_now(connection)
        waiting = rows.add_delivery(
            connection,
            next_attempt_at=now + timedelta(hours=1),
            expires_at=now - timedelta(seconds=1),
        )
        rows.add_delivery(connection, expires_at=now + timedelta(hours=1))
        ended = expiring.expire_pending(connection, limit=10, now=now)
        row = rows.delivery(connection, waiting)
        (alert,) = rows.alerts(connection)
    assert [item.delivery_id for item in ended] == [waiting]
    assert (row["status"], row["reason"]) == ("expired", "expired")
    assert row["finished_at"] == now
    assert alert["id"] == ended[0].alert_id


def test_a_row_that_somebody_is_at_is_passed_over_without_waiting(engine: Engine) -> None:
    """Each of the three statements takes the others' rows and leaves that one alone."""
    with engine.begin() as connection:
        past = rows.database_now(connection) - timedelta(seconds=1)
        held, other = rows.add_delivery(connection), rows.add_delivery(connection)
        over = rows.add_delivery(connection, expires_at=past)
    lock = text("SELECT FROM signalpost.deliveries WHERE id IN (:held, :over) FOR UPDATE")
    with engine.begin() as first, engine.begin() as second:
        first.execute(lock, {"held": held, "over": over})
        second.execute(text("SET LOCAL lock_timeout = '1s'"))
        by_id = naming.claim_by_id(second, [held], worker_id=WORKER)
        assert (by_id.claims, [item.delivery_id for item in by_id.unclaimed]) == ([], [held])
        due = claims.claim_due(second, worker_id=WORKER, limit=10)
        assert ([claim.delivery_id for claim in due.claims], due.expired) == ([other], [])
        assert expiring.expire_pending(second, limit=10) == []
