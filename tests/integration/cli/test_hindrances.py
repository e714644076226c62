from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from tests import rows
from tests.integration.cli.operators import Operator
from tests.integration.test_audit import block


def add(engine: Engine, name: str, more: dict[str, Any] | None = None, **endpoint: Any) -> UUID:
    """A delivery that has been due for a minute, to an endpoint of its own."""
    long_ago = text("clock_timestamp() - interval '1 minute'")
    with engine.begin() as conn:
        desk = rows.add_endpoint(conn, name=name, **endpoint)
        values: dict[str, Any] = {"created_at": long_ago, "next_attempt_at": long_ago}
        return rows.add_delivery(conn, endpoint_id=desk, **{**values, **(more or {})})


def test_status_and_endpoints_show_what_is_stuck_and_why(
    operator: Operator, engine: Engine
) -> None:
    """Each cause is told with its number and oldest age, a pause with who, when and why."""
    soon = text("clock_timestamp() + interval '20 seconds'")
    _, behind = block(engine)
    ids = {
        "blocked": behind,
        "limit": add(engine, "slow", max_in_flight=1),
        "breaker": add(engine, "ill", opened_at=text("clock_timestamp()"), probe_at=soon),
        "order": add(engine, "fx", {"held": "behind", "ordered": True}),
        "superseding": add(engine, "eq", {"held": "superseding"}),
        "pause": add(engine, "moving"),
        "retry": add(engine, "later", {"next_attempt_at": soon}),
        "due": add(engine, "plain"),
    }
    operator.run("endpoint", "pause", "moving", "--reason", "new rack")
    seen = operator.json("status")
    screen = operator.run("status").stdout
    states = {view["name"]: view["state"] for view in operator.json("endpoint", "list")}
    shown = operator.run("endpoint", "show", "ill").stdout
    paused = operator.json("endpoint", "show", "moving")

    assert {one["cause"]: one["number"] for one in seen["held"]} == dict.fromkeys(ids, 1)
    for cause, delivery_id in ids.items():
        assert operator.json("deliveries", "show", str(delivery_id))["cause"] == cause
    assert "paused endpoint moving for" in screen
    assert screen.count(": new rack\n") == 1
    assert "breaker of ill open for" in screen
    assert "held for slow: 1 by a limit, the oldest for " in screen
    assert (states["moving"], states["ill"], states["desk"], states["plain"]) == (
        *("paused", "breaker open", "1 blocked", "open"),
    )
    assert "next try in" in shown
    assert "waiting        1 by an open breaker" in shown
    assert (paused["pauses"][0]["why"], paused["held"][0]["cause"]) == ("new rack", "pause")


def test_a_story_says_what_holds_its_delivery(operator: Operator, engine: Engine) -> None:
    """A pending one says why it is not under way; a blocked one names the commands that end it."""
    dead, behind = block(engine)
    story = operator.run("deliveries", "show", str(behind)).stdout

    assert f"signalpost replay {dead}` sends that first" in story
    assert f"signalpost skip {dead}` leaves it out" in story
    operator.run("skip", str(dead))
    assert (
        "an attempt as soon as a worker takes it"
        in operator.run("deliveries", "show", str(behind)).stdout
    )
