from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from signalpost.core.acts import ACTS
from signalpost.core.pausing import Pause
from signalpost.repository import (
    auditing,
    cancelling,
    pauses,
    placing,
    pruning,
    replaying,
    unblocking,
)
from signalpost.repository.skipping import blocking, skip
from signalpost.upkeep import prune
from tests import rows


def add_act(engine: Engine, days: int) -> None:
    with engine.begin() as conn:
        conn.execute(
            text(
                "INSERT INTO signalpost.audit (at, actor, action, subject) VALUES"
                " (clock_timestamp() - make_interval(days => :days), 'me', 'paused', 'everything')"
            ),
            {"days": days},
        )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE signalpost.audit SET why = 'nothing happened'",
        "DELETE FROM signalpost.audit",
        "TRUNCATE signalpost.audit",
    ],
)
def test_the_trail_can_only_be_added_to(engine: Engine, statement: str) -> None:
    """No statement changes, deletes or empties it, in the tables' owner's own session either."""
    add_act(engine, 365)

    with pytest.raises(ProgrammingError, match="append-only"), engine.begin() as conn:
        conn.execute(text(statement))
    with engine.begin() as conn:
        [line] = auditing.list_audit(conn)
    assert (line.why, line.action in ACTS) == ("", True)


def test_prune_forgets_acts_after_a_year_and_signals_nobody_took(engine: Engine) -> None:
    """A retention of a day keeps a year of acts; a signal without a delivery goes by its age."""
    for days in (1, 366, 368):
        add_act(engine, days)
    with engine.begin() as conn:
        ages = {
            name: rows.add_signal(
                conn, created_at=text(f"clock_timestamp() - interval '{days} days'")
            )
            for name, days in {"old": 3, "young": 0, "waiting": 3}.items()
        }
        rows.add_delivery(conn, signal_id=ages["waiting"])

    prune(engine, retention_days=1)

    with engine.begin() as conn:
        assert len(auditing.list_audit(conn)) == 2
        left = set(conn.execute(text("SELECT id FROM signalpost.signals")).scalars())
    assert left == {ages["young"], ages["waiting"]}
    with engine.begin() as conn:
        assert pruning.prune_untaken(conn, retention_days=0, limit=10) == 1


def test_the_trail_is_filtered_and_paged(engine: Engine) -> None:
    """By kind, endpoint, delivery and moment; the newest first, a page after the other."""
    with engine.begin() as conn:
        desk = rows.add_endpoint(conn, name="desk")
        one, other = (rows.add_delivery(conn, endpoint_id=desk) for _ in range(2))
        what = Pause("endpoint", "", desk)
        pauses.pause(conn, what, named="endpoint desk", actor="me", why="moving")
        pauses.resume(conn, what, named="endpoint desk", actor="me", why="moved")
        cancelling.cancel(conn, [one, other], actor="me", why="wrong size")
        now = rows.database_now(conn)

        def told(**asked: object) -> list[str]:
            return [line.action for line in auditing.list_audit(conn, **asked)]  # type: ignore[arg-type]  # as asked

        assert told() == ["cancel", "cancel", "resumed", "paused"]
        assert told(kinds=["paused", "cancel"]) == ["cancel", "cancel", "paused"]
        assert told(endpoint="desk") == ["resumed", "paused"]
        assert told(delivery_id=other) == ["cancel"]
        assert told(since=now) == []
        [first, second] = auditing.list_audit(conn, limit=2)
        assert first.id > second.id
        assert told(before=second.id) == ["resumed", "paused"]
        assert (first.before or {})["status"] == "pending"
        assert (first.after or {})["answer"] == "prevented"


def block(engine: Engine) -> tuple[UUID, UUID]:
    """A dead delivery of an endpoint that blocks, and the one that waits behind it."""
    with engine.begin() as conn:
        desk = rows.add_endpoint(conn, name="desk", ordered=True, on_dead="block")
        states: list[dict[str, Any]] = [
            {"status": "dead", "reason": "rejected", "sequence": 1},
            {"held": "behind"},
        ]
        dead, behind = (
            rows.add_delivery(
                conn, endpoint_id=desk, ordered=True, ordering_key="AAPL", position=number, **more
            )
            for number, more in enumerate(states)
        )
        conn.execute(
            text(
                "INSERT INTO signalpost.orderings (endpoint_id, ordering_key, sequence, blocked_by)"
                " VALUES (:desk, 'AAPL', 1, :dead)"
            ),
            {"desk": desk, "dead": dead},
        )
    return dead, behind


def by_skip(engine: Engine, dead: UUID) -> None:
    with engine.begin() as conn:
        [one] = skip(conn, [dead], actor="me", why="closed by hand")
        assert (one.endpoint, one.ordering_key, one.waiting) == ("desk", "AAPL", 1)


def by_cancel(engine: Engine, dead: UUID) -> None:
    with engine.begin() as conn:
        [answer] = cancelling.cancel(conn, [dead], actor="me", why="closed by hand")
        assert answer.note == "it was dead already; those that waited behind it go on"


def by_setting(engine: Engine, dead: UUID) -> None:
    with engine.begin() as conn:
        endpoint_id = rows.delivery(conn, dead)["endpoint_id"]
        assert unblocking.unblock_endpoint(conn, endpoint_id) == 1


@pytest.mark.parametrize(
    ("decide", "act"), [(by_skip, ["skip"]), (by_cancel, ["cancel"]), (by_setting, [])]
)
def test_a_person_ends_the_waiting_behind_a_dead_one(
    engine: Engine, decide: Callable[[Engine, UUID], None], act: list[str]
) -> None:
    """The next of the key may go, the dead one stays dead and is not sent, and it is audited."""
    dead, behind = block(engine)
    with engine.begin() as conn:
        assert [one.delivery_id for one in blocking(conn)] == [dead]

    decide(engine, dead)

    with engine.begin() as conn:
        assert blocking(conn) == []
        assert rows.delivery(conn, dead)["status"] == "dead"
        assert rows.delivery(conn, behind)["held"] is None
        assert [line.action for line in auditing.list_audit(conn)] == act
        assert skip(conn, [dead], actor="me") == []


def test_a_replayed_one_goes_before_those_that_it_blocked(engine: Engine) -> None:
    """A replay of what blocks is placed first of its key; the others go on waiting behind it."""
    dead, behind = block(engine)
    with engine.begin() as conn:
        [answer] = replaying.replay(conn, [dead], actor="me")
        assert answer.refusal is None
    with engine.begin() as conn:
        placed = placing.place_new(conn, limit=10)

        assert placed.heads == [dead]
        assert rows.delivery(conn, behind)["held"] == "behind"
        assert blocking(conn) == []
