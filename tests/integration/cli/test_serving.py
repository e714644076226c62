from __future__ import annotations

import secrets
import signal
import socket
import sqlite3
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine, text

from signalpost.core.signals import Signal
from signalpost.core.signing import Outgoing, secret_bytes, sign
from tests.integration.cli.operators import LINE, Operator
from tests.processes import wait_for


def test_a_worker_wants_redis_and_fitting_options(bystander: Operator) -> None:
    """A worker without Redis, or an option that its role has not, is refused in one line."""
    without = bystander.run("worker", REDIS_URL="")
    beat = bystander.run("worker", "--role", "beat", "--concurrency", "2")

    assert without.exit_code == 1
    assert "no Redis: set REDIS_URL" in without.stderr
    assert beat.exit_code == 2


def test_a_role_becomes_celery_and_ends_on_ctrl_c(operator: Operator, engine: Engine) -> None:
    """Each role is Celery itself in the same process; it ends in order on Ctrl-C, as on SIGTERM,
    and says 0: it has done what it should. Flower lets nobody in without the password, which is
    made and told where none is set.
    """
    port = free_port()
    words = {
        "deliver": (("--concurrency", "2"), "ready"),
        "ops": (("--concurrency", "1"), "ready"),
        "beat": ((), "beat: Starting"),
        "flower": ((), r"user is signalpost, its password for this run (\S+)"),
    }
    with ExitStack() as running:
        programs = {}
        for role, (more, _) in words.items():
            program = operator.program("worker", "--role", role, *more, FLOWER_PORT=str(port))
            programs[role] = running.enter_context(program)
        told = {role: programs[role].wait_for_line(line, 60) for role, (_, line) in words.items()}
        # Flower names its password before it is Flower.
        wait_for(lambda: listens(port), 60, "Flower")
        with engine.connect() as conn:
            name = conn.scalar(text("SELECT name FROM signalpost.workers"))
        answers = flower_answers(port, told["flower"][1])
        for program in programs.values():
            program.send(signal.SIGINT)
        ends = {role: program.wait(60) for role, program in programs.items()}

    assert str(name).endswith(f":{programs['deliver'].pid}")
    assert answers["nobody"] == answers["wrong"] == 401
    assert answers["told"] < 400
    assert ends == dict.fromkeys(words, 0)
    assert not any("Traceback" in program.output for program in programs.values())


def flower_answers(port: int, password: str) -> dict[str, int]:
    known = {
        "nobody": None,
        "wrong": ("signalpost", "battery"),
        "told": ("signalpost", password),
    }
    with httpx.Client(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client:
        return {who: client.get("/", auth=auth).status_code for who, auth in known.items()}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request_of(secret: str, port: int, delivery_id: str) -> tuple[bytes, dict[str, str]]:
    body = Signal.model_validate({**LINE}).identified("tests").body()
    outgoing = Outgoing(
        method="POST",
        authority=f"127.0.0.1:{port}",
        raw_path="/in",
        query="",
        body=body,
        producer_id="tests",
        delivery_id=delivery_id,
        attempt=1,
        expires_at=None,
        replayed=False,
        sequence=None,
        timestamp=datetime.now(UTC),
    )
    return body, sign(outgoing, keys=[secret_bytes(secret)], key_ids=["desk:1"])


def post(secret: str, port: int, delivery_id: str) -> int:
    body, headers = request_of(secret, port, delivery_id)
    with httpx.Client(trust_env=False) as client:
        return client.post(f"http://127.0.0.1:{port}/in", content=body, headers=headers).status_code


def test_the_receiver_verifies_and_counts(bystander: Operator, tmp_path: Path) -> None:
    """It makes a secret, tells one line for each request, counts at the end, and keeps its book."""
    book = tmp_path / "book.sqlite"
    delivery_id = str(uuid4())
    with bystander.program("receiver", "--port", "0", "--book", str(book)) as receiver:
        port = int(receiver.wait_for_line(r"listening on http://127.0.0.1:(\d+)")[1])
        secret = receiver.wait_for_line(r"made for this run: (\S+)")[1]
        statuses = [post(secret, port, delivery_id) for _ in range(2)]
        statuses.append(post("another secret of mine", port, delivery_id))
        receiver.wait_for_line("401 unverified")
        receiver.send(signal.SIGINT)
        assert receiver.wait() == 0

    assert statuses == [201, 200, 401]
    assert f"201 accepted  delivery={delivery_id} signal=" in receiver.output
    assert "attempt=1 AAPL buy" in receiver.output
    assert receiver.lines[-1] == "1 accepted, 1 duplicate, 1 unverified"
    assert "Traceback" not in receiver.output
    with sqlite3.connect(book) as connection:
        assert connection.execute("SELECT count(*) FROM signalpost_received").fetchone() == (1,)


def test_the_receiver_cuts_connections_as_told(bystander: Operator) -> None:
    """--drop acts and cuts the connection: the sender cannot know, and its retry is a duplicate."""
    secret = secrets.token_hex(16)
    file = bystander.file(secret, name="secret")
    words = ("receiver", "--port", "0", "--secret-file", file, "--drop", "--fail", "1")
    delivery_id = str(uuid4())
    with bystander.program(*words) as receiver:
        port = int(receiver.wait_for_line(r"listening on http://127.0.0.1:(\d+)")[1])
        with pytest.raises(httpx.RemoteProtocolError):
            post(secret, port, delivery_id)
        assert post(secret, port, delivery_id) == 200
        receiver.end()

    assert secret not in receiver.output
    assert f"cut the connection as told delivery={delivery_id}" in receiver.output
    assert receiver.lines[-1] == "1 accepted, 1 duplicate, 1 gone wrong as told"


def test_the_receiver_is_late_as_told(bystander: Operator) -> None:
    """--delay holds every answer back, the bad ones too."""
    secret = secrets.token_hex(16)
    file = bystander.file(secret, name="secret")
    words = ("--port", "0", "--secret-file", file, "--delay", "300ms", "--status", "500")
    with bystander.program("receiver", *words) as receiver:
        port = int(receiver.wait_for_line(r"listening on http://127.0.0.1:(\d+)")[1])
        begin = time.monotonic()
        status = post(secret, port, str(uuid4()))
        took = time.monotonic() - begin

    assert status == 500
    assert took >= 0.3


def test_the_receiver_stands_in_for_an_endpoint(operator: Operator) -> None:
    """--endpoint takes secret, URL and port of an endpoint, so that what is sent there arrives and
    verifies.
    """
    port = free_port()
    added = operator.json("endpoint", "add", "local", f"http://127.0.0.1:{port}/in")
    with operator.program("receiver", "--endpoint", "local") as receiver:
        receiver.wait_for_line("listening on")
        assert post(added["secret"], port, str(uuid4())) == 201
        taken = operator.run("receiver", "--port", str(port))
        # Not here, since it is taken, and so elsewhere by mistake.
        with operator.program(
            "receiver", "--endpoint", "local", "--port", str(free_port())
        ) as lost:
            lost.wait_for_line(rf"goes to port {port}, not to \d+; `signalpost endpoint set local")

    assert added["secret"] not in receiver.output
    assert taken.exit_code == 1
    assert f"port {port} cannot be used" in taken.stderr


def test_the_receiver_knows_both_secrets_while_one_replaces_the_other(operator: Operator) -> None:
    """The canonical signature is by the old secret until the window ends, and verifies as well."""
    port = free_port()
    old = operator.json("endpoint", "add", "local", f"http://127.0.0.1:{port}/in")["secret"]
    assert operator.run("endpoint", "rotate-secret", "local", "--grace", "1d").exit_code == 0
    words = ("--endpoint", "local", "--port", str(port), "--profile", "canonical")
    with operator.program("receiver", *words) as receiver:
        receiver.wait_for_line("listening on")
        assert post(old, port, str(uuid4())) == 201


@pytest.mark.parametrize(
    ("words", "given", "code", "told"),
    [
        (["--public-url", "ftp://x/"], None, 1, "public_url: the URL must look like"),
        (["--status", "500", "--drop"], None, 2, "exclude each other"),
        (["--secret-stdin", "--endpoint", "x"], "secret" * 5, 2, "brings its own secret"),
        (["--secret-stdin", "--port", "0"], "short", 1, "at least 16 bytes"),
        (["--endpoint", "nobody"], None, 1, "there is no endpoint named 'nobody'"),
        (["--port", "0", "--book", "/nowhere/book"], None, 1, "/nowhere/book"),
    ],
)
def test_a_receiver_that_cannot_work_is_one_line(
    bystander: Operator, words: list[str], given: str | None, code: int, told: str
) -> None:
    """Options that exclude each other, a bad secret and an unknown endpoint are told at once."""
    result = bystander.run("receiver", *words, given=given)

    assert result.exit_code == code
    assert told in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
