from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select

from signalpost.core.signing import secret_bytes, standard_webhooks_secret
from signalpost.database import REVISION
from signalpost.models import AuditRow, EndpointRow
from signalpost.secretbox import SecretBox
from tests.databases import cloned
from tests.integration.cli.operators import Operator


@pytest.fixture
def bare_url(postgres_server: str) -> Iterator[str]:
    """A database without any table."""
    with cloned(postgres_server, "template1") as url:
        yield url


def test_migrate_tells_from_where_to_where(operator: Operator, bare_url: str) -> None:
    """An unmigrated database is named as such, migrated, and then left alone."""
    before = operator.run("status", DATABASE_URL=bare_url)
    first = operator.run("migrate", DATABASE_URL=bare_url)
    second = operator.run("migrate", DATABASE_URL=bare_url)

    assert before.exit_code == 1
    assert before.stderr.splitlines()[-1].endswith("run `signalpost migrate` first")
    assert first.stdout == f"the tables went from nothing to revision {REVISION}\n"
    assert second.stdout == f"the tables are at revision {REVISION}; nothing to do\n"


def test_a_database_that_cannot_be_reached_is_one_line(bystander: Operator) -> None:
    """No server, a wrong password, a wrong kind of URL: one line, exit code 1, no secret in it."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"postgresql://u:correct-horse@127.0.0.1:{closed.getsockname()[1]}/x"
        unreachable = bystander.run("status", DATABASE_URL=nobody)
    good = bystander.environment["DATABASE_URL"]
    head, _, tail = good.rpartition("@")
    wrong = bystander.run("status", DATABASE_URL=f"{head.rpartition(':')[0]}:battery@{tail}")
    mysql = bystander.run("status", DATABASE_URL="mysql://u:correct-horse@127.0.0.1/x")

    for result, told in (
        (unreachable, "PostgreSQL cannot be reached"),
        (wrong, "PostgreSQL refuses the password"),
        (mysql, "DATABASE_URL must be a PostgreSQL URL"),
    ):
        assert result.exit_code == 1
        assert result.stderr.startswith(f"signalpost: {told}"), result.stderr
        assert result.stderr.count("\n") == 1
        assert "correct-horse" not in result.output
        assert "battery" not in result.output


def test_commands_say_which_database_they_use(bystander: Operator) -> None:
    """The database is told on standard error, with its source and without its password."""
    told = bystander.run("endpoint", "list").stderr

    assert told.startswith("database: postgresql://")
    assert told.endswith("(DATABASE_URL)\n")
    assert ":***@" in told


def test_an_endpoint_without_a_secret_gets_one(operator: Operator, engine: Engine) -> None:
    """A secret is made, shown once, stored encrypted, and can be revealed in the whsec_ form."""
    added = operator.run("endpoint", "add", "desk", "http://127.0.0.1:9/in")
    shown = operator.run("endpoint", "show", "desk")
    revealed = operator.json("endpoint", "show", "desk", "--reveal-secret")

    secret = added.stdout.partition("for the receiver: ")[2].strip()
    assert secret.startswith("whsec_")
    assert secret not in shown.output
    assert revealed["secret"] == secret
    with engine.connect() as conn:
        stored = conn.scalars(select(EndpointRow.secret_ciphertext)).one()
        actor = conn.scalars(select(AuditRow.actor)).one()
    assert secret.encode() not in stored
    assert SecretBox([operator.keys]).decrypt(stored) == secret.encode()
    assert actor.startswith("user ")


def test_an_endpoints_own_secret_comes_by_file_or_stdin(operator: Operator) -> None:
    """A given secret is taken without its line's end and never shown, but in the whsec_ form."""
    own = "correct horse battery staple"
    file = operator.file(own, name="secret")

    by_file = operator.run("endpoint", "add", "a", "http://127.0.0.1:9/", "--secret-file", file)
    by_stdin = operator.run(
        "endpoint", "add", "b", "http://127.0.0.1:9/", "--secret-stdin", given=f"{own}\n"
    )

    assert own not in by_file.output + by_stdin.output
    for name in ("a", "b"):
        revealed = operator.json("endpoint", "show", name, "--reveal-secret")["secret"]
        assert revealed == standard_webhooks_secret(secret_bytes(own))


def test_an_endpoints_policy_is_kept_and_shown(operator: Operator) -> None:
    """What is given is the endpoint's own, what is not is the settings'."""
    policy = ("--timeout", "5s", "--max-retries", "2", "--retry-delay", "500ms", "--ttl", "2m")
    operator.run("endpoint", "add", "desk", "http://127.0.0.1:9/", *policy, "--on-unknown", "stop")
    operator.run("endpoint", "add", "plain", "http://127.0.0.1:9/")

    listed = {view["name"]: view for view in operator.json("endpoint", "list")}
    desk = listed["desk"]
    assert (desk["timeout_seconds"], desk["max_retries"]) == (5, 2)
    assert (desk["retry_delay_seconds"], desk["ttl_seconds"]) == (0.5, 120)
    assert desk["on_unknown"] == "stop"
    assert listed["plain"]["timeout_seconds"] is None
    assert "30 s (settings)" in operator.run("endpoint", "show", "plain").stdout


def test_what_a_program_sees_of_an_endpoint_is_these_names(operator: Operator) -> None:
    """A new column is shown only once it was thought about: it may be a secret."""
    operator.run("endpoint", "add", "desk", "http://127.0.0.1:9/")
    policy = {"timeout_seconds", "max_retries", "retry_delay_seconds", "retry_schedule_seconds"}
    policy |= {"ttl_seconds", "on_unknown", "ordered", "on_dead", "max_in_flight"}
    policy |= {"rate_per_second", "instruments", "sides", "actions", "producers", "min_confidence"}
    named = {"id", "name", "url", "headers", "secret_version", "previous_secret_until"}

    [listed] = operator.json("endpoint", "list")
    shown = operator.json("endpoint", "show", "desk")

    assert set(listed) == named | policy | {"created_at", "state"}
    assert set(shown) == set(listed) | {"trail", "pauses", "breaker", "held"}


@pytest.mark.parametrize(
    ("words", "given", "ending"),
    [
        (["desk", "http://127.0.0.1:9/"], None, (1, "there is an endpoint named desk already")),
        (["b", "http://10.0.0.1/"], None, (1, "OUTBOUND_ALLOW_NETWORKS must hold it")),
        (["b", "ftp://x"], None, (1, "the URL cannot be used")),
        (["b b", "https://x.example/"], None, (1, "an endpoint's name must be")),
        (["b", "https://x.example/", "--secret-stdin"], "short", (1, "at least 16 bytes")),
        (["b", "https://x.example/", "--secret-stdin"], "whsec_!", (1, "base64")),
        (["b", "https://x.example/", "--secret-stdin"], b"\xff" * 20, (1, "UTF-8")),
        (["b", "https://x.example/", "--ttl", "10s"], None, (1, "longer than a signal's life")),
        (["b", "https://x.example/", "--ttl", "soon"], None, (2, "write a span of time")),
        (
            ["b", "https://x.example/", "--secret-file", "/nowhere"],
            None,
            (1, "/nowhere cannot be read: No such"),
        ),
        (
            ["b", "https://x.example/", "--secret-stdin", "--secret-file", "x"],
            "x" * 20,
            (2, "exclude each other"),
        ),
    ],
)
def test_a_bad_endpoint_is_one_line(
    bystander: Operator, words: list[str], given: Any, ending: tuple[int, str]
) -> None:
    """Whatever is wrong with an endpoint is told in one line, and nothing is added."""
    code, told = ending
    result = bystander.run("endpoint", "add", *words, given=given)

    assert result.exit_code == code
    assert told in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
    assert [view["name"] for view in bystander.json("endpoint", "list")] == ["desk"]


def test_an_endpoint_cannot_be_added_without_keys(bystander: Operator) -> None:
    """Without SECRET_KEYS no secret is stored, and the line says so."""
    result = bystander.run("endpoint", "add", "a", "http://127.0.0.1:9/", SECRET_KEYS="")

    assert result.exit_code == 1
    assert "SECRET_KEYS is not set" in result.stderr
