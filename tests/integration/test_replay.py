from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, select, text

from signalpost.core.lifecycle import Status
from signalpost.models import AuditRow
from signalpost.repository import naming
from signalpost.repository.enqueueing import Life, NewSignal, Way, enqueue
from signalpost.repository.replaying import Replay, replay
from tests import rows
from tests.processes import wait_for


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        yield connection


def dead_letter(conn: Connection, status: str = "dead", **values: Any) -> UUID:
    given = {
        "status": status,
        "reason": "exhausted",
        "next_attempt_at": None,
        "finished_at": rows.database_now(conn),
        "attempts": 6,
        "spent": 6,
        **values,
    }
    return rows.add_delivery(conn, **given)


def replay_one(conn: Connection, delivery_id: UUID, **options: Any) -> Replay:
    [answer] = replay(conn, [delivery_id], actor="user me", **options)
    return answer


def audit(conn: Connection) -> list[Mapping[str, Any]]:
    table = AuditRow.__table__
    return [dict(row) for row in conn.execute(select(table).order_by(table.c.id)).mappings()]


def new_signal() -> NewSignal:
    signal_id = uuid4()
    return NewSignal(
        id=signal_id,
        key=str(signal_id),
        body=b"{}",
        instrument="AAPL",
        side="buy",
        action="open",
        expires_at=None,
    )


def in_seconds(conn: Connection, seconds: float) -> datetime:
    moment: datetime = rows.database_now(conn) + timedelta(seconds=seconds)
    return moment


def test_a_dead_letter_is_put_back(conn: Connection) -> None:
    """It is pending, due, with its budget whole; its attempt's number and its facts stay."""
    delivery_id = dead_letter(conn, maybe_received=True)

    answer = replay_one(conn, delivery_id, even_unknown=True)

    row = rows.delivery(conn, delivery_id)
    assert answer.refusal is None
    assert (answer.status, answer.reason) == (Status.DEAD, "exhausted")
    assert (row["status"], row["reason"], row["finished_at"]) == ("pending", None, None)
    assert (row["spent"], row["attempts"], row["replays"]) == (0, 6, 1)
    assert row["maybe_received"]
    assert row["next_attempt_at"] <= rows.database_now(conn)
    [claim] = naming.claim_by_id(conn, [delivery_id], worker_id=uuid4()).claims
    assert (claim.attempt, claim.replays) == (7, 1)


def test_a_replay_leaves_its_trail(conn: Connection) -> None:
    """The audit says who replayed what, why, from which status, with which new life."""
    over = in_seconds(conn, -60)
    delivery_id = dead_letter(conn, "expired", expires_at=over)

    answer = replay_one(conn, delivery_id, why="it is repaired", even_expired_ttl_seconds=300)

    [entry] = audit(conn)
    assert (entry["actor"], entry["action"]) == ("user me", "replay")
    assert (entry["subject"], entry["why"]) == (f"delivery {delivery_id}", "it is repaired")
    assert entry["before"] == {
        "status": "expired",
        "reason": "exhausted",
        "spent": 6,
        "expires_at": over.isoformat(),
    }
    assert answer.expires_at is not None
    assert entry["after"] == {
        "status": "pending",
        "replays": 1,
        "expires_at": answer.expires_at.isoformat(),
    }


@pytest.mark.parametrize("status", ["pending", "sending", "delivered", "cancelled", "superseded"])
def test_only_dead_letters_can_be_replayed(conn: Connection, status: str) -> None:
    """Whatever is not dead or expired is refused and left as it was."""
    held = {"claim_id": uuid4(), "worker_id": uuid4()} if status == "sending" else {}
    delivery_id = dead_letter(conn, status, **held)
    before = rows.delivery(conn, delivery_id)

    answer = replay_one(conn, delivery_id, even_unknown=True, even_expired_ttl_seconds=60)

    assert answer.refusal is not None
    assert f"it is {status}" in answer.refusal
    assert rows.delivery(conn, delivery_id) == before
    assert audit(conn) == []


def test_what_may_have_been_executed_needs_a_word(conn: Connection) -> None:
    """A delivery that the receiver may have executed is replayed only where that is said."""
    delivery_id = dead_letter(conn, maybe_received=True)

    refused = replay_one(conn, delivery_id)
    accepted = replay_one(conn, delivery_id, even_unknown=True)

    assert refused.refusal is not None
    assert "--even-unknown" in refused.refusal
    assert accepted.refusal is None


def test_what_is_past_its_expiry_needs_a_new_life(conn: Connection) -> None:
    """Past its expiry, also within the last instant, a delivery needs a ttl and gets it."""
    over = dead_letter(conn, "expired", expires_at=in_seconds(conn, -1))
    nearly = dead_letter(conn, "dead", expires_at=in_seconds(conn, 0.05))

    for delivery_id in (over, nearly):
        refused = replay_one(conn, delivery_id)
        assert refused.refusal is not None
        assert "--even-expired" in refused.refusal
        assert replay_one(conn, delivery_id, even_expired_ttl_seconds=300).refusal is None
        left = rows.delivery(conn, delivery_id)["expires_at"] - rows.database_now(conn)
        assert timedelta(seconds=290) < left <= timedelta(seconds=300)


def test_what_had_no_life_left_for_a_retry_needs_a_new_one(conn: Connection) -> None:
    """An expired delivery ends so again, also where its last instants have not passed."""
    delivery_id = dead_letter(conn, "expired", expires_at=in_seconds(conn, 20))

    refused = replay_one(conn, delivery_id)
    accepted = replay_one(conn, delivery_id, even_expired_ttl_seconds=300)

    assert refused.needs == ("--even-expired --ttl SPAN",)
    assert accepted.refusal is None
    left = rows.delivery(conn, delivery_id)["expires_at"] - rows.database_now(conn)
    assert left > timedelta(seconds=290)


def test_a_life_that_is_not_over_stays(conn: Connection) -> None:
    """A ttl is for those past their expiry; another's expiry, or none, is not touched."""
    later = in_seconds(conn, 30)
    alive = dead_letter(conn, expires_at=later)
    forever = dead_letter(conn, expires_at=None)

    replay(conn, [alive, forever], actor="user me", even_expired_ttl_seconds=300)

    assert rows.delivery(conn, alive)["expires_at"] == later
    assert rows.delivery(conn, forever)["expires_at"] is None


@pytest.mark.parametrize("status", ["pending", "delivered", "dead", "cancelled"])
def test_what_a_newer_signal_has_taken_the_key_of_needs_a_word(
    conn: Connection, status: str
) -> None:
    """An older plan is not sent after a newer one, whatever became of that, unless asked for."""
    desk, floor = rows.add_endpoint(conn, name="desk"), rows.add_endpoint(conn, name="floor")
    signals = [rows.add_signal(conn) for _ in range(2)]
    plan: dict[str, Any] = {"endpoint_id": desk, "supersede_key": "entry"}
    old = dead_letter(conn, **plan, signal_id=signals[0])
    elsewhere = dead_letter(conn, supersede_key="entry", endpoint_id=floor, signal_id=signals[0])
    other = dead_letter(conn, supersede_key="exit", endpoint_id=desk)
    newer = rows.add_delivery(conn, **plan, signal_id=signals[1], status=status)

    looked = replay(conn, [old, elsewhere, other], actor="user me", dry_run=True)
    refused = replay_one(conn, old)
    accepted = replay_one(conn, old, even_superseded=True)

    assert [one.outdated for one in looked] == [True, False, False]
    assert looked[0] == refused
    assert refused.needs == ("--even-superseded",)
    assert "a newer signal" in (refused.refusal or "")
    assert accepted.refusal is None
    if status == "dead":
        assert replay_one(conn, newer).refusal is None


def test_a_key_is_each_producer_s_own(conn: Connection) -> None:
    """Another producer's newer signal of the same key takes nobody's place."""
    plan: dict[str, Any] = {"endpoint_id": rows.add_endpoint(conn), "supersede_key": "entry"}
    old = dead_letter(conn, **plan, signal_id=rows.add_signal(conn, producer_id="one"))
    rows.add_delivery(conn, **plan, signal_id=rows.add_signal(conn, producer_id="two"))

    assert replay_one(conn, old).refusal is None


def test_of_a_replay_and_a_newer_signal_at_once_one_sees_the_other(engine: Engine) -> None:
    """A replay that comes while the newer signal is being enqueued waits, and is refused then."""
    way, life = Way(supersede_key="entry"), Life(default_ttl_seconds=600)
    with engine.begin() as conn:
        rows.add_endpoint(conn, name="desk")
        enqueue(conn, "tests", [new_signal()], life=life, way=way)
        [old] = conn.execute(text("SELECT id FROM signalpost.deliveries")).scalars()
        conn.execute(
            text("UPDATE signalpost.deliveries SET status = 'dead', next_attempt_at = NULL")
        )
    answers: list[Replay] = []

    def work() -> None:
        with engine.begin() as conn:
            answers.append(replay_one(conn, old))

    with engine.begin() as producer:
        enqueue(producer, "tests", [new_signal()], life=life, way=way)
        thread = threading.Thread(target=work)
        thread.start()
        wait_until_blocked(engine)
    thread.join(10)
    assert [one.needs for one in answers] == [("--even-superseded",)]


def test_an_endpoint_that_was_removed_takes_nothing(conn: Connection) -> None:
    """A delivery to an endpoint that was removed is refused, since nobody would send it."""
    endpoint_id = rows.add_endpoint(conn, removed_at=rows.database_now(conn))

    answer = replay_one(conn, dead_letter(conn, endpoint_id=endpoint_id))

    assert answer.refusal is not None
    assert "removed" in answer.refusal


def test_each_answer_stands_for_itself(conn: Connection) -> None:
    """One refusal does not hinder the others; order is kept, and a repeated id counts once."""
    good, bad, unknown = dead_letter(conn), dead_letter(conn, "delivered"), uuid4()

    answers = replay(conn, [unknown, bad, good, good], actor="user me")

    assert [answer.delivery_id for answer in answers] == [unknown, bad, good]
    assert [answer.refusal is None for answer in answers] == [False, False, True]
    assert rows.delivery(conn, good)["replays"] == 1


def test_a_dry_run_changes_nothing(conn: Connection) -> None:
    """A dry run answers like a replay, and leaves rows and trail as they were."""
    delivery_id = dead_letter(conn)
    before = rows.delivery(conn, delivery_id)

    answer = replay_one(conn, delivery_id, dry_run=True)

    assert answer.refusal is None
    assert rows.delivery(conn, delivery_id) == before
    assert audit(conn) == []


def test_two_replays_at_once_are_one(engine: Engine) -> None:
    """Of two people who replay the same delivery at once, the second is told what it is now."""
    with engine.begin() as conn:
        delivery_id = dead_letter(conn)
    answers: list[Replay] = []

    def second() -> None:
        with engine.begin() as conn:
            answers.append(replay_one(conn, delivery_id))

    with engine.begin() as conn:
        first = replay_one(conn, delivery_id)
        other = threading.Thread(target=second)
        other.start()
        wait_until_blocked(engine)
    other.join(10)

    assert first.refusal is None
    assert answers[0].refusal is not None
    assert "it is pending" in answers[0].refusal
    with engine.begin() as conn:
        assert rows.delivery(conn, delivery_id)["replays"] == 1


def wait_until_blocked(engine: Engine) -> None:
    def blocked() -> bool:
        with engine.connect() as conn:
            count = conn.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        return bool(count)

    wait_for(blocked, 10, "the second replay's wait")
