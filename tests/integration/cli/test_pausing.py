from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from tests import rows
from tests.integration.cli.operators import Operator


@pytest.fixture
def waiting(engine: Engine) -> None:
    """An endpoint named desk with two entries and an exit on their way."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection, name="desk")
        rows.add_delivery(connection, endpoint_id=endpoint_id)
        rows.add_delivery(connection, endpoint_id=endpoint_id)
        rows.add_delivery(connection, endpoint_id=endpoint_id, priority=1)


@pytest.mark.usefixtures("waiting")
def test_a_pause_tells_what_it_holds_and_a_resume_asks(operator: Operator, engine: Engine) -> None:
    """The exits that a plain pause holds are named; a resume goes on only with --yes."""
    paused = operator.run("pause", "--reason", "news")
    asked = operator.run("resume")
    done = operator.json("resume", "--yes")
    again = operator.run("resume", "--yes")

    assert paused.exit_code == 0
    assert "3 deliveries wait" in paused.stdout
    assert "1 of them are exits" in paused.stderr
    assert asked.exit_code == 1
    assert "3 deliveries would go out, 1 of them exits" in asked.stderr
    assert (done["resumed"], done["deliveries"], done["exits"]) == ("everything", 3, 1)
    assert datetime.fromisoformat(done["oldest"]).utcoffset() == timedelta(0)
    assert again.exit_code == 1
    assert "is not paused" in again.stderr
    with engine.connect() as conn:
        trail = conn.execute(text("SELECT action, why FROM signalpost.audit ORDER BY id")).all()
    assert [tuple(row) for row in trail] == [("paused", "news"), ("resumed", "")]


@pytest.mark.usefixtures("waiting")
def test_each_pause_is_told(operator: Operator, engine: Engine) -> None:
    """A second one hides nothing behind the first's alert; of the same again, the last is told."""
    operator.run("pause", "--instrument", "EURUSD")
    operator.run("pause", "--entries-only")
    operator.run("pause")
    operator.run("pause", "--endpoint", "desk")
    with engine.connect() as conn:
        told = conn.execute(
            text("SELECT details->>'what', details->>'entries_only' FROM signalpost.alerts")
        ).all()
    assert sorted(map(tuple, told)) == [
        ("endpoint desk", "False"),
        ("everything", "False"),
        ("instrument EURUSD", "False"),
    ]


@pytest.mark.usefixtures("waiting")
def test_a_resume_may_drop_what_waited(operator: Operator, engine: Engine) -> None:
    """With --drop it is cancelled instead of sent; exits that were let through are not."""
    operator.run("pause", "--endpoint", "desk", "--entries-only")
    dropped = operator.run("resume", "--endpoint", "desk", "--drop")

    assert dropped.exit_code == 0
    assert "2 deliveries were cancelled" in dropped.stdout
    with engine.connect() as conn:
        found = conn.execute(text("SELECT priority, status FROM signalpost.deliveries")).all()
    assert sorted(tuple(row) for row in found) == [
        (0, "cancelled"),
        (0, "cancelled"),
        (1, "pending"),
    ]


@pytest.mark.usefixtures("waiting")
def test_a_drop_tells_of_what_may_have_been_executed(operator: Operator, engine: Engine) -> None:
    """An earlier attempt without proof is not undone by cancelling, and the operator hears so."""
    unproven = "UPDATE signalpost.deliveries SET maybe_received = true, attempts = 1"
    with engine.begin() as conn:
        conn.execute(text(f"{unproven} WHERE priority = 1"))
    operator.run("pause")
    dropped = operator.run("resume", "--drop")
    with engine.begin() as conn:
        again = "UPDATE signalpost.deliveries SET status = 'pending', finished_at = NULL"
        conn.execute(text(f"{again}, next_attempt_at = now()"))
    operator.run("pause")
    as_json = operator.json("resume", "--drop")

    assert dropped.exit_code == 0
    assert "3 deliveries were cancelled" in dropped.stdout
    assert "1 of these may have been executed before" in dropped.stderr
    assert (as_json["cancelled"], as_json["may_have_been_executed"]) == (3, 1)


def test_two_scopes_at_once_are_refused(operator: Operator) -> None:
    """A pause is of one thing."""
    refused = operator.run("pause", "--producer", "a", "--instrument", "B*")
    assert refused.exit_code == 2
    assert "name one of" in refused.stderr


@pytest.mark.usefixtures("waiting")
def test_a_pause_of_nothing_known_asks_for_the_name(operator: Operator) -> None:
    """A slip of the pen in the kill switch is not taken for a pause that works."""
    nothing = operator.run("pause", "--producer", "momentum-l")
    holds = operator.run("pause", "--instrument", "A*")

    assert nothing.exit_code == holds.exit_code == 0
    assert "0 deliveries wait" in nothing.stdout
    assert "is the name right? `signalpost deliveries list`" in nothing.stderr
    assert "is the name right?" not in holds.stderr
