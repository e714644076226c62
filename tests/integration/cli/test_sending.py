from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from tests import rows
from tests.integration.cli.operators import LINE, Operator
from tests.processes import clean_environment, signalpost, wait_for
from tests.proxy import Proxy


def test_good_lines_are_sent_and_bad_ones_told(operator: Operator, endpoint: str) -> None:
    """Each bad line is told by number and reason; the good ones are sent; the exit code is 1."""
    file = operator.file(LINE, "{", "", {**LINE, "side": "hold"}, {**LINE, "instrument": "IBM"})

    result = operator.run("send", file)

    assert result.exit_code == 1
    assert result.stderr.splitlines()[1:] == [
        "line 2: JSON: not JSON at column 2",
        "line 4: side: must be buy or sell",
    ]
    assert "2 signals, 2 deliveries, 0 known already, 2 bad lines" in result.stdout
    listed = operator.json("deliveries", "list")
    assert sorted(line["instrument"] for line in listed) == ["AAPL", "IBM"]
    assert all(line["delivery_id"] in result.stdout for line in listed)


def test_sending_again_is_safe(operator: Operator, endpoint: str) -> None:
    """The same lines sent again are recognised and make no second delivery."""
    file = operator.file(LINE)
    operator.run("send", file)

    result = operator.run("send", file)

    assert result.exit_code == 0
    assert "1 signals, 1 deliveries, 1 known already, 0 bad lines" in result.stdout
    assert "(known already)" in result.stdout
    assert len(operator.json("deliveries", "list")) == 1


def test_strict_sends_all_or_none(operator: Operator, endpoint: str) -> None:
    """With --strict one bad line holds back all, and without one all are sent."""
    bad = operator.run("send", operator.file(LINE, "{"), "--strict")
    assert bad.exit_code == 1
    assert operator.json("deliveries", "list") == []

    many = [{**LINE, "reason": f"signal {n}"} for n in range(1200)]
    good = operator.run("send", operator.file(*many), "--strict")
    assert good.exit_code == 0
    assert len(operator.json("deliveries", "list", "--limit", "10000")) == 1200


def test_a_conflict_is_told_by_its_line(operator: Operator, endpoint: str) -> None:
    """A line whose id is known with another body is a bad line; its neighbours are sent."""
    known = {**LINE, "id": str(uuid4())}
    operator.run("send", operator.file(known))
    file = operator.file({**LINE, "reason": "another"}, {**known, "reason": "changed"}, known)

    strict = operator.run("send", file, "--strict")
    result = operator.run("send", file)

    assert (strict.exit_code, result.exit_code) == (1, 1)
    assert "use a new key for a new signal" in strict.stderr.splitlines()[-1]
    assert "0 signals" in strict.stdout
    assert result.stderr.splitlines()[-1].startswith("line 2: ")
    assert "2 signals, 2 deliveries, 1 known already, 1 bad lines" in result.stdout
    assert len(operator.json("deliveries", "list")) == 2


def test_lines_go_where_they_are_sent(operator: Operator, endpoint: str, engine: Engine) -> None:
    """--endpoint, --ttl and --producer hold for every line, from standard input as well."""
    operator.run("endpoint", "add", "other", "http://127.0.0.1:9/")

    words = ("send", "-", "--endpoint", "other", "--ttl", "30s", "--producer", "me")
    result = operator.run(*words, given=json.dumps(LINE))

    assert result.exit_code == 0, result.output
    [line] = operator.json("deliveries", "list")
    assert line["endpoint"] == "other"
    story = operator.json("deliveries", "show", line["delivery_id"])
    assert story["producer_id"] == "me"
    with engine.connect() as conn:
        row = rows.delivery(conn, UUID(line["delivery_id"]))
    life = row["expires_at"] - row["created_at"]
    assert abs(life - timedelta(seconds=30)) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("words", "more", "told"),
    [
        (["/nowhere.jsonl"], {}, "/nowhere.jsonl cannot be read: No such file or directory"),
        (["-"], {"PRODUCER_ID": ""}, "PRODUCER_ID is not set"),
        (["-", "--endpoint", "nobody"], {}, "there is no endpoint named 'nobody'"),
    ],
)
def test_sending_that_cannot_work_is_one_line(
    bystander: Operator, words: list[str], more: dict[str, str], told: str
) -> None:
    """A file, a producer, an endpoint or a life that cannot be used is told in one line."""
    result = bystander.run("send", *words, given=json.dumps(LINE), **more)

    assert result.exit_code == 1
    assert told in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
    assert "may have been enqueued" not in result.output
    assert bystander.json("deliveries", "list") == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--producer", "a b"], "letters, digits, underscores and hyphens"),
        (["--ttl", "0"], "more than nothing"),
        (["--ttl", "-5"], "write a span of time"),
    ],
)
def test_an_impossible_option_is_wrong_usage(
    bystander: Operator, words: list[str], told: str
) -> None:
    """A producer's name or a life that cannot be is named by its option, before a line is read."""
    result = bystander.run("send", "-", *words, given=json.dumps(LINE))

    assert result.exit_code == 2
    assert f"Invalid value for {words[0]}" in result.stderr.replace("'", "")
    assert told in result.stderr


def test_a_known_signal_that_was_asked_to_go_elsewhere_is_told(
    operator: Operator, endpoint: str
) -> None:
    """It keeps the endpoints of its first sending; another one that did not get it is told."""
    operator.run("endpoint", "add", "other", "http://127.0.0.1:9/")
    file = operator.file(LINE)
    operator.run("send", file, "--endpoint", "desk")

    again = operator.run("send", file, "--endpoint", "other")
    nobody = operator.run("send", file, "--endpoint", "dekc")
    facts = operator.run("send", file, "--endpoint", "other", "--json")

    assert again.exit_code == facts.exit_code == 1
    assert "1 of these are known already and were not sent to other" in again.stderr
    assert json.loads(facts.stdout)["not_sent_to"] == {"other": 1}
    assert (nobody.exit_code, "no endpoint named 'dekc'" in nobody.stderr) == (1, True)


def test_an_array_is_told_how_to_become_lines(operator: Operator, endpoint: str) -> None:
    """Somebody who sends a JSON array learns what a line is."""
    result = operator.run("send", operator.file("[", json.dumps(LINE) + ",", "]"))

    assert result.exit_code == 1
    assert "jq -c" in result.stderr
    assert operator.json("deliveries", "list") == []


def test_nobody_to_send_to_is_told(operator: Operator) -> None:
    """Without any endpoint nothing is written, and the line says what to add."""
    result = operator.run("send", operator.file(LINE))

    assert result.exit_code == 1
    assert "signalpost endpoint add" in result.stderr


def test_a_send_answers_in_json(operator: Operator, endpoint: str) -> None:
    """With --json the counts and the bad lines are one document on standard output."""
    result = operator.run("send", operator.file(LINE, "{"), "--json")

    assert json.loads(result.stdout) == {
        "signals": 1,
        "deliveries": 1,
        "duplicates": 0,
        "unannounced": 0,
        "not_sent_to": {},
        "complete": True,
        "bad": [{"line": 2, "why": "JSON: not JSON at column 2"}],
        "ended": {},
    }


def test_without_redis_sending_works_and_says_so(tmp_path: Path, database_url: str) -> None:
    """Nobody is told where there is no Redis, and the remark says who takes the deliveries."""
    operator = Operator(tmp_path, database_url, None)
    operator.run("endpoint", "add", "desk", "http://127.0.0.1:9/in")

    result = operator.run("send", operator.file(LINE))

    assert result.exit_code == 0
    assert "Redis was not told" in result.stderr
    assert operator.json("status")["redis_state"] == "not set"


@pytest.mark.parametrize(
    ("statuses", "code"), [(("delivered",) * 2, 0), (("delivered", "dead"), 1)]
)
def test_waiting_ends_with_the_deliveries(
    operator: Operator, endpoint: str, engine: Engine, statuses: Sequence[str], code: int
) -> None:
    """--wait follows each delivery to its end and fails where one was not delivered."""
    file = operator.file(LINE, {**LINE, "instrument": "IBM"})
    with operator.program("send", file, "--wait") as sending:
        wait_for(lambda: len(operator.json("deliveries", "list")) == 2)
        listed = operator.json("deliveries", "list")
        assert sending.process.poll() is None
        for line, status in zip(listed, statuses, strict=True):
            finish(engine, line["delivery_id"], status)
        assert sending.wait() == code, sending.output

    assert "ended: " + ("2 delivered" if code == 0 else "1 dead, 1 delivered") in sending.output


def finish(engine: Engine, delivery_id: str, status: str) -> None:
    with engine.begin() as conn:
        conn.execute(
            text(
                "UPDATE signalpost.deliveries SET status = :status, next_attempt_at = NULL,"
                " finished_at = clock_timestamp() WHERE id = :id"
            ),
            {"status": status, "id": delivery_id},
        )


def test_waiting_lives_through_a_lost_database(
    operator: Operator, endpoint: str, engine: Engine
) -> None:
    """--wait says that the database is away, and goes on when it is back."""
    fate = "pass"
    with (
        Proxy(operator.environment["DATABASE_URL"], lambda _: fate) as proxy,
        operator.program("send", operator.file(LINE), "--wait", DATABASE_URL=proxy.url) as sending,
    ):
        sending.wait_for_line("^waiting for 1 deliveries")
        fate = "cut"
        sending.wait_for_line("PostgreSQL .*; still waiting")
        fate = "pass"
        finish(engine, operator.json("deliveries", "list")[0]["delivery_id"], "delivered")
        code = sending.wait()

    assert (code, sending.lines[-1]) == (0, "ended: 1 delivered")


def test_who_does_not_want_to_wait_longer_is_told_what_goes_on(
    operator: Operator, endpoint: str
) -> None:
    """Ctrl-C while waiting ends with 130; the deliveries go on, and the remark says so."""
    with operator.program("send", operator.file(LINE), "--wait") as sending:
        sending.wait_for_line("^waiting for 1 deliveries")
        sending.send(signal.SIGINT)
        code = sending.wait()

    assert code == 130
    assert "1 have not ended yet, and go on by themselves" in sending.output
    assert "Traceback" not in sending.output


def test_an_interrupt_is_quiet_and_tells_what_was_sent(operator: Operator, endpoint: str) -> None:
    """Ctrl-C ends `send` with 130 and no traceback, and what was sent by then is told."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        process = subprocess.Popen(
            signalpost("send", "-"),
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**clean_environment(), **operator.environment},
            text=True,
        )
        os.close(reading)
        try:
            for number in (1, 2):
                pipe.write(f"{json.dumps({**LINE, 'reason': f'signal {number}'})}\n")
                pipe.flush()
                wait_for(lambda: len(operator.json("deliveries", "list")) == number)  # noqa: B023
        finally:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)

    assert process.returncode == 130
    # The second one may have been on its way still.
    assert "2 signals, 2 deliveries" in out or "up to 1 more may have been enqueued" in err
    assert "Traceback" not in err
