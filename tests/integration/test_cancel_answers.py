"""What a cancellation answers, for every way in which a delivery can stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from signalpost.core.lifecycle import Status
from signalpost.repository import claims, placing
from signalpost.repository.cancelling import Withdrawn, cancel
from tests import rows

PREVENTED, SENT, UNKNOWN = Withdrawn.PREVENTED, Withdrawn.ALREADY_SENT, Withdrawn.UNKNOWN
ASK = "ask the receiver"
UNDER_WAY = "under way"


@dataclass(frozen=True)
class Stance:
    """How a delivery stands, and what its cancellation must say and do."""

    name: str
    status: str
    answer: Withdrawn
    after: str
    note: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    hindrance: str = ""
    """SQL that makes what holds it, or changes it."""


KEY = {"ordered": True, "ordering_key": "K"}
MAYBE = {"maybe_received": True, "attempts": 1, "spent": 1}
PAUSE = "INSERT INTO signalpost.pauses (scope, value, endpoint_id, actor) VALUES "
BLOCK = (
    "INSERT INTO signalpost.orderings (endpoint_id, ordering_key, blocked_by)"
    " SELECT endpoint_id, ordering_key, id FROM signalpost.deliveries WHERE status = 'dead'"
)

STANCES = (
    Stance("just enqueued", "pending", PREVENTED, "cancelled"),
    Stance("after a 503", "pending", PREVENTED, "cancelled", row={"attempts": 1, "spent": 1}),
    Stance("after a time-out", "pending", UNKNOWN, "cancelled", ASK, row=MAYBE),
    Stance("not yet placed", "pending", PREVENTED, "cancelled", row={**KEY, "held": "new"}),
    Stance("behind another", "pending", PREVENTED, "cancelled", row={**KEY, "held": "behind"}),
    Stance("the head of its key", "pending", PREVENTED, "cancelled", row=KEY),
    Stance(
        "waiting for what it supersedes",
        "pending",
        PREVENTED,
        "cancelled",
        row={"supersede_key": "entry", "held": "superseding"},
    ),
    Stance("parked", "pending", PREVENTED, "cancelled", row={"parked": True}),
    Stance(
        "parked after a time-out", "pending", UNKNOWN, "cancelled", ASK, {**MAYBE, "parked": True}
    ),
    Stance(
        "everything paused",
        "pending",
        PREVENTED,
        "cancelled",
        hindrance=f"{PAUSE} ('all', '', NULL, 'me')",
    ),
    Stance(
        "its endpoint paused",
        "pending",
        PREVENTED,
        "cancelled",
        hindrance=f"{PAUSE} ('endpoint', '', (SELECT id FROM signalpost.endpoints), 'me')",
    ),
    Stance(
        "its instrument paused, after a time-out",
        "pending",
        UNKNOWN,
        "cancelled",
        ASK,
        row=MAYBE,
        hindrance=f"{PAUSE} ('instrument', 'AA*', NULL, 'me')",
    ),
    Stance(
        "behind an open breaker",
        "pending",
        PREVENTED,
        "cancelled",
        hindrance="UPDATE signalpost.endpoints SET opened_at = now(), probe_at = now() + '1 min'",
    ),
    Stance(
        "of a removed endpoint",
        "pending",
        PREVENTED,
        "cancelled",
        hindrance="UPDATE signalpost.endpoints SET removed_at = now()",
    ),
    Stance(
        "replayed after a time-out", "pending", UNKNOWN, "cancelled", ASK, {**MAYBE, "replays": 1}
    ),
    Stance("an exit", "pending", PREVENTED, "cancelled", row={"priority": 1}),
    Stance("in flight", "sending", UNKNOWN, "sending", UNDER_WAY),
    Stance(
        "in flight, superseded",
        "sending",
        UNKNOWN,
        "sending",
        UNDER_WAY,
        row={"wanted_end": "superseded"},
    ),
    Stance(
        "in flight, cancelled",
        "sending",
        UNKNOWN,
        "sending",
        UNDER_WAY,
        row={"wanted_end": "cancelled"},
    ),
    Stance(
        "in flight while paused", "sending", UNKNOWN, "sending", UNDER_WAY, row={"parked": True}
    ),
    Stance("delivered", "delivered", SENT, "delivered", "accepted"),
    Stance("delivered after a time-out", "delivered", SENT, "delivered", "accepted", row=MAYBE),
    Stance("rejected", "dead", PREVENTED, "dead", "dead already", row={"reason": "rejected"}),
    Stance("dead of time-outs", "dead", UNKNOWN, "dead", ASK, row={**MAYBE, "reason": "unknown"}),
    Stance(
        "dead, and holding up others",
        "dead",
        PREVENTED,
        "dead",
        "go on",
        row={**KEY, "reason": "gone"},
        hindrance=BLOCK,
    ),
    Stance("expired", "expired", PREVENTED, "expired", "expired already"),
    Stance("expired after a time-out", "expired", UNKNOWN, "expired", ASK, row=MAYBE),
    Stance("cancelled before", "cancelled", PREVENTED, "cancelled", "cancelled already"),
    Stance("cancelled after a time-out", "cancelled", UNKNOWN, "cancelled", ASK, row=MAYBE),
    Stance("superseded", "superseded", PREVENTED, "superseded", "superseded already"),
    Stance("superseded after a time-out", "superseded", UNKNOWN, "superseded", ASK, row=MAYBE),
)


@pytest.mark.parametrize("stance", STANCES, ids=lambda stance: stance.name)
def test_each_answer_is_what_is_surely_known(engine: Engine, stance: Stance) -> None:
    """However a delivery stands, the answer promises no more than is known, and it is not sent."""
    with engine.begin() as conn:
        delivery_id = _stand(conn, stance)
        looked = cancel(conn, [delivery_id], actor="me", dry_run=True)
        [answer] = cancel(conn, [delivery_id], actor="me")
        row = rows.delivery(conn, delivery_id)
        for statement in (
            "DELETE FROM signalpost.pauses",
            "UPDATE signalpost.endpoints SET opened_at = NULL, probe_at = NULL, removed_at = NULL",
        ):
            conn.execute(text(statement))
        placing.place_new(conn, limit=10)
        later = claims.claim_due(conn, worker_id=uuid4(), limit=10)

    assert (answer.answer, row["status"]) == (stance.answer, stance.after)
    assert stance.note in answer.note if stance.note else not answer.note
    assert (looked[0].answer, looked[0].status) == (answer.answer, answer.status)
    assert (answer.was, answer.status) == (Status(stance.status), Status(stance.after))
    assert (later.claims, row["held"] if row["status"] == "pending" else None) == ([], None)
    if stance.status == "sending":
        assert row["wanted_end"] == stance.row.get("wanted_end", "cancelled")


def test_the_table_has_every_status_and_every_hold() -> None:
    """A status or a hold that is added later has to say here what its cancellation answers."""
    assert {stance.status for stance in STANCES} == {status.value for status in Status}
    assert {stance.row.get("held") for stance in STANCES} == {None, "new", "behind", "superseding"}


def _stand(conn: Connection, stance: Stance) -> Any:
    now = rows.database_now(conn)
    values: dict[str, Any] = {"status": stance.status, **stance.row}
    if stance.status != "pending":
        values |= {"next_attempt_at": None}
    if stance.status == "sending":
        values |= {"claim_id": uuid4(), "worker_id": uuid4(), "claimed_at": now, "attempts": 1}
    elif stance.status != "pending":
        values |= {"finished_at": now - timedelta(seconds=1)}
    if stance.row.get("ordered"):
        values["endpoint_id"] = rows.add_endpoint(conn, ordered=True, on_dead="block")
    delivery_id = rows.add_delivery(conn, **values)
    if stance.hindrance:
        conn.execute(text(stance.hindrance))
    return delivery_id
