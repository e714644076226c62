from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from sqlalchemy import Connection, Engine, select

from signalpost.core.lifecycle import Status
from signalpost.models import AuditRow
from signalpost.repository import claims, naming, records
from signalpost.repository.cancelling import Cancellation, Withdrawn, cancel
from tests import receivers, rows
from tests.engines import engine_rig
from tests.integration.test_engine import deliveries
from tests.integration.test_records import ACCEPTED, DEAD, LOST, REFUSED, RELEASED, claimed, news
from tests.integration.test_replay import wait_until_blocked
from tests.waiting import counts

WORKER = UUID(int=7)


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        yield connection


def cancel_one(conn: Connection, delivery_id: UUID, **options: Any) -> Cancellation:
    [answer] = cancel(conn, [delivery_id], actor="user me", **options)
    return answer


def audit(conn: Connection) -> list[Mapping[str, Any]]:
    table = AuditRow.__table__
    return [dict(row) for row in conn.execute(select(table).order_by(table.c.id)).mappings()]


def test_what_was_never_sent_is_prevented(conn: Connection) -> None:
    """A pending delivery without an attempt is cancelled, finished, and never claimed."""
    delivery_id = rows.add_delivery(conn)

    answer = cancel_one(conn, delivery_id)

    row = rows.delivery(conn, delivery_id)
    assert (answer.answer, answer.was, answer.note) == (Withdrawn.PREVENTED, Status.PENDING, "")
    assert (row["status"], row["reason"], row["next_attempt_at"]) == ("cancelled", None, None)
    assert row["finished_at"] is not None
    assert claims.claim_due(conn, worker_id=WORKER, limit=5).claims == []
    assert rows.alerts(conn) == []


def test_what_may_have_arrived_is_not_called_prevented(conn: Connection) -> None:
    """An earlier attempt without proof makes the answer unknown, though nothing more is sent."""
    unproven = claimed(conn)
    proven = claimed(conn)
    records.record(conn, [news(unproven, REFUSED), news(proven, RELEASED)])

    assert cancel_one(conn, proven.delivery_id).answer is Withdrawn.PREVENTED
    answer = cancel_one(conn, unproven.delivery_id)

    assert answer.answer is Withdrawn.UNKNOWN
    assert "ask the receiver" in answer.note
    assert rows.delivery(conn, unproven.delivery_id)["status"] == "cancelled"


@pytest.mark.parametrize(
    ("status", "maybe", "expected"),
    [
        ("delivered", False, Withdrawn.ALREADY_SENT),
        ("dead", False, Withdrawn.PREVENTED),
        ("dead", True, Withdrawn.UNKNOWN),
        ("expired", False, Withdrawn.PREVENTED),
        ("cancelled", True, Withdrawn.UNKNOWN),
        ("superseded", False, Withdrawn.PREVENTED),
    ],
)
def test_what_is_finished_is_answered_and_left(
    conn: Connection, status: str, maybe: bool, expected: Withdrawn
) -> None:
    """A finished delivery is not touched, nor audited; the answer says what is known of it."""
    now = rows.database_now(conn)
    delivery_id = rows.add_delivery(
        conn, status=status, next_attempt_at=None, finished_at=now, maybe_received=maybe
    )
    before = rows.delivery(conn, delivery_id)

    answer = cancel_one(conn, delivery_id)

    assert (answer.answer, answer.changed) == (expected, False)
    assert rows.delivery(conn, delivery_id) == before
    assert audit(conn) == []


@pytest.mark.parametrize(
    ("what", "status", "maybe"),
    [
        (ACCEPTED, "delivered", False),
        (REFUSED, "cancelled", True),
        (DEAD, "cancelled", False),
        (LOST, "cancelled", True),
        (RELEASED, "cancelled", False),
    ],
)
def test_what_is_being_sent_ends_delivered_or_cancelled(
    conn: Connection, what: Any, status: str, maybe: bool
) -> None:
    """Marked while an attempt is under way, it is not retried, not even where the claim is lost."""
    claim = claimed(conn)

    answer = cancel_one(conn, claim.delivery_id)
    marked = rows.delivery(conn, claim.delivery_id)
    recorded = records.record(conn, [news(claim, what)])[claim.claim_id]

    row = rows.delivery(conn, claim.delivery_id)
    assert (answer.answer, answer.status) == (Withdrawn.UNKNOWN, Status.SENDING)
    assert (marked["status"], marked["wanted_end"]) == ("sending", "cancelled")
    assert (row["status"], row["wanted_end"], row["maybe_received"]) == (status, None, maybe)
    assert row["finished_at"] is not None
    assert row["next_attempt_at"] is None
    assert recorded.status == status
    assert rows.alerts(conn) == []


def test_a_success_that_comes_after_the_cancellation_is_told(conn: Connection) -> None:
    """Late news of an older claim makes a cancelled delivery delivered, because it is."""
    claim = claimed(conn)
    records.record(conn, [news(claim, LOST)])
    cancel_one(conn, claim.delivery_id)

    late = records.record(conn, [news(claim, ACCEPTED)])[claim.claim_id]

    assert (late.late, late.status) == (True, Status.DELIVERED)
    assert rows.delivery(conn, claim.delivery_id)["status"] == "delivered"
    assert cancel_one(conn, claim.delivery_id).answer is Withdrawn.ALREADY_SENT


def test_a_cancellation_leaves_its_trail(conn: Connection) -> None:
    """The audit says who, why, from which status, and what was promised; a second one adds none."""
    pending = rows.add_delivery(conn, reason="http_503", attempts=2)
    sending = rows.add_delivery(
        conn, status="sending", claim_id=uuid4(), worker_id=WORKER, attempts=1
    )

    for _ in range(2):
        cancel(conn, [pending, sending], actor="user me", why="wrong size")

    first, second = audit(conn)
    assert (first["actor"], first["action"], first["why"]) == ("user me", "cancel", "wrong size")
    assert first["subject"] == f"delivery {pending}"
    assert first["before"] == {"status": "pending", "reason": "http_503", "attempts": 2}
    assert first["after"] == {"status": "cancelled", "answer": "prevented"}
    assert second["subject"] == f"delivery {sending}"
    assert second["after"] == {
        "status": "sending",
        "answer": "unknown",
        "wanted_end": "cancelled",
    }


def test_a_dry_run_changes_nothing(conn: Connection) -> None:
    """A dry run answers the same, and leaves rows and trail as they were."""
    delivery_id = rows.add_delivery(conn)
    before = rows.delivery(conn, delivery_id)

    answer = cancel_one(conn, delivery_id, dry_run=True)

    assert (answer.answer, answer.status) == (Withdrawn.PREVENTED, Status.CANCELLED)
    assert rows.delivery(conn, delivery_id) == before
    assert audit(conn) == []


def test_an_unknown_id_is_answered_honestly(conn: Connection) -> None:
    """Of what is not there, pruned meanwhile perhaps, nothing is promised; order is kept."""
    known, unknown = rows.add_delivery(conn), uuid4()

    answers = cancel(conn, [unknown, known, known], actor="user me")

    assert [answer.delivery_id for answer in answers] == [unknown, known]
    assert answers[0].answer is Withdrawn.UNKNOWN
    assert "no delivery" in answers[0].note


def while_locked(
    engine: Engine, hold: Callable[[Connection], Any], then: Callable[[Connection], Any]
) -> tuple[Any, Any]:
    """What both did, where the second came while the first one's transaction was open."""
    done: list[Any] = []

    def second() -> None:
        with engine.begin() as connection:
            done.append(then(connection))

    with engine.begin() as connection:
        first = hold(connection)
        other = threading.Thread(target=second)
        other.start()
        wait_until_blocked(engine)
    other.join(10)
    return first, done[0]


def test_a_cancellation_that_meets_a_claim_marks_it(engine: Engine) -> None:
    """Waiting for a claim to commit, the cancellation sees it being sent, and says unknown."""
    with engine.begin() as conn:
        delivery_id = rows.add_delivery(conn)

    claim, answer = while_locked(
        engine,
        lambda c: naming.claim_by_id(c, [delivery_id], worker_id=WORKER).claims[0],
        lambda c: cancel_one(c, delivery_id),
    )

    assert (answer.was, answer.answer) == (Status.SENDING, Withdrawn.UNKNOWN)
    with engine.begin() as conn:
        records.record(conn, [news(claim, REFUSED)])
        assert rows.delivery(conn, delivery_id)["status"] == "cancelled"


def test_a_cancellation_that_meets_a_record_sees_its_news(engine: Engine) -> None:
    """Waiting for a record to commit, the cancellation tells what it brought."""
    with engine.begin() as conn:
        claim = claimed(conn)

    _, answer = while_locked(
        engine,
        lambda c: records.record(c, [news(claim, ACCEPTED)]),
        lambda c: cancel_one(c, claim.delivery_id),
    )

    assert (answer.answer, answer.changed) == (Withdrawn.ALREADY_SENT, False)


def test_a_record_that_meets_a_cancellation_does_not_retry(engine: Engine) -> None:
    """Waiting for a cancellation to commit, the record sees the mark."""
    with engine.begin() as conn:
        claim = claimed(conn)

    _, recorded = while_locked(
        engine,
        lambda c: cancel_one(c, claim.delivery_id),
        lambda c: records.record(c, [news(claim, REFUSED)]),
    )

    assert recorded[claim.claim_id].status is Status.CANCELLED


def test_a_claim_passes_by_what_is_being_cancelled(engine: Engine) -> None:
    """A claim never waits for a cancellation, and never gets what it withdraws."""
    with engine.begin() as conn:
        delivery_id = rows.add_delivery(conn)
    with engine.begin() as conn:
        cancel_one(conn, delivery_id)
        with engine.begin() as other:
            claimed_then = claims.claim_due(other, worker_id=WORKER, limit=5)
            asked = naming.claim_by_id(other, [delivery_id], worker_id=WORKER)
    assert (claimed_then.claims, asked.claims) == ([], [])


def claim_and_record(engine: Engine, done: threading.Event) -> None:
    while True:
        with engine.begin() as conn:
            found = claims.claim_due(conn, worker_id=WORKER, limit=7).claims
        with engine.begin() as conn:
            records.record(conn, [news(claim, RELEASED) for claim in reversed(found)])
        if not found and done.is_set():
            return


def cancel_all(engine: Engine, ids: Sequence[UUID], done: threading.Event) -> None:
    for start in range(0, len(ids), 10):
        with engine.begin() as conn:
            cancel(conn, ids[start : start + 10], actor="user me")
    done.set()


def test_cancel_claim_and_record_at_once_agree(engine: Engine) -> None:
    """Whatever the order, all end cancelled, and none is claimed once it was answered."""
    with engine.begin() as conn:
        endpoint_id = rows.add_endpoint(conn)
        ids = [rows.add_delivery(conn, endpoint_id=endpoint_id) for _ in range(150)]
    done = threading.Event()

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(claim_and_record, engine, done) for _ in range(2)]
        pool.submit(cancel_all, engine, ids, done).result(60)
        for other in others:
            other.result(60)

    with engine.begin() as conn:
        stand = [rows.delivery(conn, delivery_id) for delivery_id in ids]
        trail = {entry["subject"]: entry["before"] for entry in audit(conn)}
    assert {(row["status"], row["wanted_end"]) for row in stand} == {("cancelled", None)}
    assert len(trail) == len(ids)
    for row in stand:
        assert row["attempts"] == trail[f"delivery {row['id']}"]["attempts"]


@pytest.mark.parametrize(
    ("code", "status"), [(201, "delivered"), (503, "cancelled"), (422, "cancelled")]
)
async def test_an_engine_does_not_retry_what_is_cancelled_in_mid_post(
    engine: Engine, database_url: str, code: int, status: str
) -> None:
    """Cancelled while the receiver ponders, it ends by the answer: delivered, or cancelled."""
    gate = asyncio.Event()

    async def answer(_: receivers.Seen) -> web.Response:
        await gate.wait()
        return web.Response(status=code)

    async with receivers.receiver(answer) as receiver, engine_rig(database_url) as rig:
        (delivery_id,) = deliveries(engine, receiver.url)
        going = asyncio.create_task(rig.engine.deliver(delivery_id))
        await receiver.wait_for(1)
        with engine.begin() as conn:
            answered = cancel_one(conn, delivery_id)
        gate.set()
        report = await going

    assert answered.answer is Withdrawn.UNKNOWN
    assert (report.status, report.retry_in_seconds) == (status, None)
    assert rig.announced == []
    assert counts(engine) == {status: 1}


async def test_a_claim_that_is_lost_after_a_cancellation_ends_cancelled(
    engine: Engine, database_url: str
) -> None:
    """A worker that died with a cancelled delivery under way leaves no retry behind."""
    async with engine_rig(database_url) as rig:
        with engine.begin() as conn:
            gone = rows.add_worker(conn, stopped_at=rows.database_now(conn))
            delivery_id = rows.add_delivery(conn)
            naming.claim_by_id(conn, [delivery_id], worker_id=gone)
            cancel_one(conn, delivery_id)
        found = await rig.outbox.take_back(rig.dispatcher.judge_lost, silence_seconds=10)
        [ended] = found.values()

    assert ended.status is Status.CANCELLED
    with engine.begin() as conn:
        row = rows.delivery(conn, delivery_id)
        [attempt] = rows.attempts(conn, delivery_id)
    assert (row["status"], row["maybe_received"]) == ("cancelled", True)
    assert (attempt["outcome"], attempt["failure"]) == ("unknown", "claim_lost")
