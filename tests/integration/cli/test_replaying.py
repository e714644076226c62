from __future__ import annotations

import json
from uuid import UUID, uuid4

import redis
from sqlalchemy import Engine, select

from signalpost.models import AuditRow
from signalpost.repository import claims
from tests.integration.cli.operators import Operator


def test_a_replay_is_done_told_and_announced(
    operator: Operator, dead_letter: UUID, engine: Engine, redis_url: str
) -> None:
    """What is put back is told, audited under the account's name, and rung for in Redis."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        refused = operator.run("replay", str(dead_letter))
        assert client.llen("drain") == 0
        dry = operator.run("replay", str(dead_letter), "--even-unknown", "--dry-run")
        assert client.llen("drain") == 0
        done = operator.run("replay", str(dead_letter), "--even-unknown", "--reason", "asked them")
        assert client.llen("drain") == 1

    assert refused.exit_code == 1
    assert "replay with --even-unknown" in refused.stdout
    assert (dry.exit_code, done.exit_code) == (0, 0)
    assert "would be replayed" in dry.stdout
    assert done.stdout.splitlines()[1].split()[-3] == "replayed"
    with engine.connect() as conn:
        entry = conn.execute(select(AuditRow.actor, AuditRow.why).order_by(AuditRow.id)).all()[-1]
        [claim] = claims.claim_by_id(conn, [dead_letter], worker_id=uuid4()).claims
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
