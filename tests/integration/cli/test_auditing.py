from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from tests.integration.cli.operators import LINE, Operator
from tests.integration.test_audit import block
from tests.proxy import Proxy


def test_the_audit_trail_tells_who_what_why_and_the_change(
    operator: Operator, endpoint: str
) -> None:
    """A change, a pause and a cancellation show with their reasons, before and after."""
    operator.run("endpoint", "set", "desk", "--rate", "50", "--reason", "too fast")
    operator.run("pause", "--reason", "news")
    operator.run("send", operator.file(LINE))
    [line] = operator.json("deliveries", "list")
    operator.run("cancel", line["delivery_id"], "--reason", "wrong size")
    shown = operator.run("audit", "list")
    acts = operator.json("audit", "list", "--endpoint", "desk")
    [cancelled] = operator.json("audit", "list", "--delivery", line["delivery_id"])
    paged = operator.json("audit", "list", "--kind", "paused", "--since", "1h", "--limit", "1")

    assert "rate_per_second - -> 50.0" in shown.stdout
    assert [act["action"] for act in acts] == ["endpoint changed", "endpoint added"]
    assert (acts[0]["why"], acts[0]["after"]["rate_per_second"]) == ("too fast", 50)
    assert (cancelled["why"], cancelled["before"]["status"]) == ("wrong size", "pending")
    assert [act["subject"] for act in paged] == ["everything"]
    assert endpoint not in shown.output
    assert operator.run("audit", "list", "--kind", "nothing").exit_code == 2


def test_skip_lets_those_go_that_wait_behind_a_dead_one(operator: Operator, engine: Engine) -> None:
    """--dry-run shows what blocks and changes nothing; skip ends it, once, and says how many."""
    dead, _ = block(engine)
    seen = operator.json("skip", "--dry-run")
    unsure = operator.run("skip")
    [done] = operator.json("skip", "--endpoint", "desk", "--reason", "closed by hand")
    again = operator.run("skip", str(dead))

    assert [one["delivery_id"] for one in seen] == [str(dead)]
    assert (unsure.exit_code, "say which" in unsure.stderr) == (2, True)
    assert (done["delivery_id"], done["waiting"]) == (str(dead), 1)
    assert (again.exit_code, "no dead delivery holds up others" in again.stdout) == (1, True)
    with engine.begin() as conn:
        why = conn.scalar(text("SELECT why FROM signalpost.audit WHERE action = 'skip'"))
    assert why == "closed by hand"


def test_on_dead_skip_lets_go_what_a_dead_one_held_up(operator: Operator, engine: Engine) -> None:
    """Who changes an endpoint from block to skip ends the waiting that there is, too."""
    block(engine)
    changed = operator.run("endpoint", "set", "desk", "--on-dead", "skip")

    assert changed.exit_code == 0, changed.stderr
    assert operator.json("skip", "--dry-run") == []


@pytest.mark.parametrize("words", [["pause"], ["cancel", "--endpoint", "desk", "--yes"]])
def test_a_commit_that_is_never_answered_is_no_certain_failure(
    operator: Operator, endpoint: str, words: list[str]
) -> None:
    """Whoever acts must know that it may have been done, and where to see whether it was."""
    assert operator.run("send", operator.file(LINE)).exit_code == 0
    wrote = False

    def watch(data: bytes) -> str:
        nonlocal wrote
        wrote = wrote or b"INTO signalpost.audit" in data
        return "pass and cut" if wrote and b"COMMIT" in data else "pass"

    with Proxy(operator.environment["DATABASE_URL"], watch) as proxy:
        broken = operator.run(*words, "--reason", "news", DATABASE_URL=proxy.url)
    assert (broken.exit_code, endpoint in broken.output) == (1, False)
    assert "it may have been done, or not; see `signalpost audit list`" in broken.stderr
