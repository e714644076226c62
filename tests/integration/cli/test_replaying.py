from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import Engine, select, text

from signalpost.models import AuditRow
from signalpost.repository import naming
from tests import rows
from tests.integration.cli.operators import Operator


def test_a_replay_is_done_told_and_announced(
    operator: Operator, dead_letter: UUID, engine: Engine, redis_url: str
) -> None:
    """What is put back is told, audited under the account's name, and announced in Redis."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        refused = operator.run("replay", str(dead_letter))
        assert client.llen("deliver") == 0
        dry = operator.run("replay", str(dead_letter), "--even-unknown", "--dry-run")
        assert client.llen("deliver") == 0
        done = operator.run("replay", str(dead_letter), "--even-unknown", "--reason", "asked them")
        assert client.llen("deliver") == 1

    assert refused.exit_code == 1
    assert "replay with --even-unknown" in refused.stdout
    assert (dry.exit_code, done.exit_code) == (0, 0)
    assert "would be replayed" in dry.stdout
    assert done.stdout.splitlines()[1].split()[-3] == "replayed"
    with engine.connect() as conn:
        entry = conn.execute(select(AuditRow.actor, AuditRow.why).order_by(AuditRow.id)).all()[-1]
        [claim] = naming.claim_by_id(conn, [dead_letter], worker_id=uuid4()).claims
    assert entry.why == "asked them"
    assert entry.actor.startswith("user ")
    assert claim.attempt == 3


def test_a_replay_answers_in_json_and_needs_both_or_none(
    operator: Operator, dead_letter: UUID
) -> None:
    """--json tells each delivery's result; --even-expired and --ttl belong together."""
    refused = operator.run("replay", str(dead_letter), "--json")
    half = operator.run("replay", str(dead_letter), "--even-expired")
    nothing = operator.run("replay", str(dead_letter), "--even-expired", "--ttl", "0")

    [answer] = json.loads(refused.stdout)
    assert refused.exit_code == 1
    assert answer["delivery_id"] == str(dead_letter)
    assert "--even-unknown" in answer["refusal"]
    assert half.exit_code == nothing.exit_code == 2
    assert "belong together" in half.stderr


def add_dead(engine: Engine, number: int, *, endpoint: str = "desk", **values: Any) -> list[UUID]:
    given = {"status": "dead", "reason": "exhausted", "next_attempt_at": None, "attempts": 6}
    with engine.begin() as conn:
        statement = text("SELECT id FROM signalpost.endpoints WHERE name = :name")
        endpoint_id = conn.scalar(statement, {"name": endpoint})
        now = rows.database_now(conn)
        return [
            rows.add_delivery(
                conn, **{"endpoint_id": endpoint_id, "finished_at": now, **given, **values}
            )
            for _ in range(number)
        ]


def test_a_filter_leaves_out_what_is_risky_and_counts_it(
    operator: Operator, endpoint: str, engine: Engine
) -> None:
    """Expired and possibly executed ones stay, each counted with the option that takes them."""
    operator.run("endpoint", "add", "other", "http://127.0.0.1:9/")
    plain = add_dead(engine, 3)
    add_dead(engine, 2, maybe_received=True)
    add_dead(engine, 1, status="expired", reason="expired")
    add_dead(engine, 4, endpoint="other")

    dry = operator.json("replay", "--endpoint", "desk", "--dry-run")
    told = operator.run("replay", "--endpoint", "desk")

    def group(status: str, left_out_for: str | None, number: int) -> dict[str, Any]:
        return {
            "endpoint": "desk",
            "status": status,
            "left_out_for": left_out_for,
            "number": number,
        }

    assert dry == {
        "dry_run": True,
        "replayed": 3,
        "left_out": 3,
        "groups": [
            group("dead", None, 3),
            group("dead", "--even-unknown", 2),
            group("expired", "--even-expired --ttl SPAN", 1),
        ],
    }
    assert told.exit_code == 0
    assert "3 replayed, 3 left out" in told.stdout
    assert "--even-unknown takes them too (ask the receiver first" in told.stdout
    pending = operator.json("deliveries", "list", "--status", "pending")
    assert {line["delivery_id"] for line in pending} == {str(one) for one in plain}


def test_options_take_what_was_left_out(operator: Operator, endpoint: str, engine: Engine) -> None:
    """With both options said, the expired and possibly executed go too, with a new life."""
    add_dead(engine, 1, maybe_received=True, status="expired", reason="expired")
    words = ("replay", "--status", "expired", "--dry-run")

    neither = operator.json(*words)
    both = operator.json(*words, "--even-unknown", "--even-expired", "--ttl", "5m")

    assert neither["groups"][0]["left_out_for"] == "--even-unknown --even-expired --ttl SPAN"
    assert both["replayed"] == 1


def test_a_filter_by_reason_and_time(operator: Operator, endpoint: str, engine: Engine) -> None:
    """The reason of death and the moment of enqueue narrow what is meant."""
    add_dead(engine, 1, reason="gone")
    [exhausted] = add_dead(engine, 1)
    with engine.begin() as conn:
        old = rows.database_now(conn) - timedelta(hours=3)
    add_dead(engine, 1, created_at=old)

    operator.run("replay", "--reason-is", "exhausted", "--since", "1h")

    [line] = operator.json("deliveries", "list", "--status", "pending")
    assert line["delivery_id"] == str(exhausted)


def test_many_are_asked_about_and_rung_for_once(
    operator: Operator, endpoint: str, engine: Engine, redis_url: str
) -> None:
    """More than 100 want --yes; all of them go in batches, and one doorbell tells of them."""
    add_dead(engine, 601)
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        refused = operator.run("replay", "--endpoint", "desk")
        done = operator.json("replay", "--endpoint", "desk", "--yes")
        queues = client.llen("drain"), client.llen("deliver")

    assert refused.exit_code == 1
    assert "601 deliveries would be replayed; --yes does it" in refused.stderr
    assert done["replayed"] == 601
    assert queues == (1, 0)
    assert len(operator.json("deliveries", "list", "--status", "pending", "--limit", "700")) == 601


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name deliveries by their ids, or choose"),
        (("4f1c9a52", "--endpoint", "desk"), "not both"),
        (("4f1c",), "too short to act upon"),
        (("--endpoint", "desk", "--even-expired", "--ttl", "999d"), "from 1s to 366d"),
    ],
)
def test_what_could_mean_the_wrong_ones_is_refused(
    bystander: Operator, words: tuple[str, ...], told: str
) -> None:
    """Nothing, both ways at once, or half an id replays nothing."""
    result = bystander.run("replay", *words)

    assert result.exit_code == 2
    assert told in result.stderr
