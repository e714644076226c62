from __future__ import annotations

import json
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from signalpost.repository.endpoints import get_endpoint, reveal_secret
from signalpost.repository.reencrypting import reencrypt
from signalpost.repository.rotation import valid_secrets
from signalpost.secretbox import SecretBox
from tests import receivers, rows
from tests.engines import SECRET, engine_rig
from tests.integration.cli.operators import Operator

NEW = "an entirely different secret"


def with_new_key(operator: Operator) -> tuple[str, str]:
    """A new key, and SECRET_KEYS with it before the old one."""
    new = SecretBox.new_key()
    return new, f"{new},{operator.keys}"


def test_after_it_the_old_key_may_go(operator: Operator, endpoint: str, engine: Engine) -> None:
    """Both secrets of a rotating endpoint read the same with the new key alone; all is audited."""
    added = operator.run(
        "endpoint", "add", "other", "http://127.0.0.1:9/", "--header", "X-Key: abc"
    )
    assert added.exit_code == 0, added.stderr
    old = operator.file(NEW, name="new.secret")
    operator.run("endpoint", "rotate-secret", "desk", "--secret-file", old)
    key, both = with_new_key(operator)

    result = operator.run("endpoint", "reencrypt", "--reason", "yearly", SECRET_KEYS=both)

    assert (result.exit_code, result.stdout) == (
        0,
        "2 encrypted anew with the first key, 0 were so already\n",
    )
    with engine.begin() as conn:
        assert valid_secrets(conn, "desk", SecretBox([key])) == (NEW, endpoint)
        assert get_endpoint(conn, "desk").secret_version == 2
        assert reveal_secret(conn, "other", SecretBox([key]))
    other = operator.json("endpoint", "show", "other", "--reveal-secret", SECRET_KEYS=key)
    assert other["header_values"] == {"X-Key": "abc"}
    for name in ("desk", "other"):
        act = operator.json("endpoint", "show", name, SECRET_KEYS=key)["trail"][-1]
        assert (act["action"], act["why"]) == ("endpoint secret reencrypted", "yearly")
    assert endpoint not in result.output
    assert key not in result.output
    again = operator.json("endpoint", "reencrypt", SECRET_KEYS=key)
    assert again == {"reencrypted": [], "current": 2, "unreadable": [], "dry_run": False}


def test_a_dry_run_changes_nothing(operator: Operator, endpoint: str, engine: Engine) -> None:
    """It counts what would be encrypted anew; the rows and the trail stay as they were."""
    _, both = with_new_key(operator)
    stored = "SELECT secret_ciphertext, (SELECT count(*) FROM signalpost.audit) FROM signalpost."
    with engine.connect() as conn:
        before = conn.execute(text(f"{stored}endpoints")).one()
    result = operator.run("endpoint", "reencrypt", "--dry-run", SECRET_KEYS=both)

    assert result.stdout.startswith("1 would be encrypted anew")
    with engine.connect() as conn:
        assert conn.execute(text(f"{stored}endpoints")).one() == before
    assert operator.json("endpoint", "show", "desk", "--reveal-secret")["secret"] == endpoint


def test_what_no_key_reads_is_named_and_the_rest_is_done(
    operator: Operator, endpoint: str, engine: Engine
) -> None:
    """An unreadable secret makes the exit code 1; one of a removed endpoint is no matter."""
    operator.run("endpoint", "add", "lost", "http://127.0.0.1:9/")
    operator.run("endpoint", "add", "gone", "http://127.0.0.1:9/")
    operator.run("endpoint", "remove", "gone")
    lost = SecretBox([SecretBox.new_key()]).encrypt(b"nobody reads this")
    with engine.begin() as conn:
        conn.execute(
            text(
                "UPDATE signalpost.endpoints SET secret_ciphertext = :lost"
                " WHERE name IN ('lost', 'gone')"
            ),
            {"lost": lost},
        )
    key, both = with_new_key(operator)
    result = operator.run("endpoint", "reencrypt", "--json", SECRET_KEYS=both)

    assert result.exit_code == 1
    assert json.loads(result.stdout)["unreadable"] == ["lost"]
    assert json.loads(result.stdout)["reencrypted"] == ["desk"]
    with engine.begin() as conn:
        assert reveal_secret(conn, "desk", SecretBox([key])) == endpoint
    told = operator.run("endpoint", "reencrypt", SECRET_KEYS=both)
    assert "1 cannot be read with any of SECRET_KEYS: lost; add the key" in told.stderr


def test_without_keys_it_is_one_line(operator: Operator, endpoint: str) -> None:
    """No key at all is an error with its remedy, not an endpoint that cannot be read."""
    result = operator.run("endpoint", "reencrypt", SECRET_KEYS="")

    assert result.exit_code == 1
    assert "SECRET_KEYS is not set" in result.stderr.splitlines()[-1]
    assert endpoint not in result.output


async def test_running_workers_go_on_signing(engine: Engine, database_url: str) -> None:
    """A worker that has both keys delivers before and after, signed with the same secret."""
    old, new = SecretBox.new_key(), SecretBox.new_key()
    both = SecretBox([new, old])
    async with receivers.receiver() as receiver:
        with engine.begin() as conn:
            sealed = SecretBox([old]).encrypt(SECRET.encode())
            endpoint_id = rows.add_endpoint(conn, url=receiver.url, secret_ciphertext=sealed)
        async with engine_rig(database_url, box=both) as rig:
            reports = [await rig.engine.deliver(due(engine, endpoint_id))]
            with engine.begin() as conn:
                found = reencrypt(conn, endpoint_id, both, actor="tests")
            reports.append(await rig.engine.deliver(due(engine, endpoint_id)))

    assert found is not None
    assert found.changed
    assert [report.outcome for report in reports] == ["delivered", "delivered"]
    assert len(receiver.seen) == 2


def due(engine: Engine, endpoint_id: int) -> UUID:
    with engine.begin() as conn:
        return rows.add_delivery(conn, endpoint_id=endpoint_id)


@pytest.mark.parametrize("keys", [1, 2])
def test_a_secret_is_renewed_only_where_another_key_holds_it(keys: int) -> None:
    """What the first key has encrypted stays, byte for byte."""
    all_keys = [SecretBox.new_key() for _ in range(keys)]
    box = SecretBox(all_keys)
    sealed = SecretBox(all_keys[-1:]).encrypt(b"abc")
    renewed = box.renewed(sealed)

    assert (renewed is None) == (keys == 1)
    assert renewed is None or SecretBox(all_keys[:1]).decrypt(renewed) == b"abc"
