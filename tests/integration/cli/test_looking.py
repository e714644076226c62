from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import Engine, text

from tests import rows
from tests.integration.cli.operators import LINE, Operator
from tests.integration.test_reading import finished
from tests.processes import clean_environment, signalpost


def test_a_reader_that_has_seen_enough_is_no_error(operator: Operator, endpoint: str) -> None:
    """A closed pipe ends a listing without a word."""
    many = [{**LINE, "reason": f"signal {n}"} for n in range(1500)]
    operator.run("send", operator.file(*many))
    listing = subprocess.Popen(
        signalpost("deliveries", "list", "--limit", "10000", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**clean_environment(), **operator.environment},
    )
    assert listing.stdout is not None
    assert listing.stderr is not None

    with listing.stdout, listing.stderr:
        assert listing.stdout.readline() == b"[\n"
        listing.stdout.close()
        assert listing.stderr.read() == b""
    assert listing.wait(20) == 0


def test_a_list_is_filtered_and_paged(operator: Operator, endpoint: str) -> None:
    """Filters leave what they say, and the remark under a full page leads to the next one."""
    operator.run("send", operator.file(LINE, {**LINE, "instrument": "IBM"}))

    first = operator.run("deliveries", "list", "--limit", "1")
    older = first.stderr.rpartition("--before ")[2].strip()
    second = operator.run("deliveries", "list", "--limit", "1", "--before", older)

    assert older in first.stdout
    assert second.stdout.splitlines()[1].split()[0] != older
    assert len(operator.json("deliveries", "list", "--instrument", "IBM")) == 1
    assert operator.json("deliveries", "list", "--status", "dead") == []
    assert len(operator.json("deliveries", "list", "--since", "1m", "--endpoint", "desk")) == 2
    assert operator.run("deliveries", "list", "--status", "dead").stdout.startswith("no deliveries")
    unknown = operator.run("deliveries", "list", "--endpoint", "nobody")
    assert "there is no endpoint named 'nobody'" in unknown.stderr


def test_a_story_is_told_whole(operator: Operator, dead_letter: UUID) -> None:
    """The story has labels, every attempt, the excerpt made harmless, the alert and what to do."""
    told = operator.run("deliveries", "show", str(dead_letter)[:8]).stdout

    for part in (
        "AAPL buy open",
        "dead (exhausted)",
        "perhaps: bytes went out",
        "2; 2 counted, 5 retries allowed",
        "503",
        "busy",
        "timeout",
        "30.000 s",
        r"try \x1b[2Jlater",
        f"signalpost replay {dead_letter} --even-unknown",
    ):
        assert part in told
    assert "\x1b" not in told
    assert "crossed the line" not in told
    assert "101.5" not in told


def test_a_story_is_found_by_its_signal_and_reveals_its_body_on_request(
    operator: Operator, dead_letter: UUID
) -> None:
    """A signal's id leads to its one delivery; the body shows only where it is asked for."""
    story = operator.json("deliveries", "show", str(dead_letter))
    signal_id = story["delivery"]["signal_id"]

    by_signal = operator.json("deliveries", "show", signal_id, "--reveal-body")
    told = operator.run("deliveries", "show", signal_id, "--reveal-body").stdout

    assert "body" not in story
    assert [attempt["number"] for attempt in story["attempts"]] == [1, 2]
    assert story["alerts"][0]["receipt"] == "1"
    assert by_signal["delivery"] == story["delivery"]
    assert json.loads(by_signal["body"])["reason"] == "crossed the line"
    assert "crossed the line" in told


def test_a_story_tells_who_replayed_and_cancelled_it(operator: Operator, dead_letter: UUID) -> None:
    """Each act stands in the story: who, when, what it changed, why; in JSON as well."""
    short = str(dead_letter)[:8]
    untouched = operator.run("deliveries", "show", short).stdout
    operator.run("replay", short, "--even-unknown", "--reason", "their server is back")
    operator.run("cancel", short, "--reason", "too late \x1b[2J")
    told = operator.run("deliveries", "show", short).stdout
    trail = operator.json("deliveries", "show", short)["trail"]

    assert "nobody has done anything to it" in untouched
    assert [act["action"] for act in trail] == ["replay", "cancel"]
    assert trail[0]["why"] == "their server is back"
    assert all(act["actor"].startswith(("user ", "uid ")) for act in trail)
    assert "status dead -> pending" in told
    assert "status pending -> cancelled" in told
    assert r"too late \x1b[2J" in told
    assert "\x1b" not in told


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("pause", "--reason", "a \udcff"), 1, "is not text in UTF-8"),
        (("deliveries", "list", "--endpoint", "\udcff"), 1, "is not text in UTF-8"),
        (("alerts", "resend", "9" * 19), 2, "is no alert's number"),
        (("audit", "list", "--before", "9" * 19), 2, "is not in the range"),
    ],
)
def test_words_that_no_table_holds_are_one_line(
    bystander: Operator, words: tuple[str, ...], code: int, told: str
) -> None:
    """Bytes that are no text, and numbers beyond PostgreSQL's, are told as what they are."""
    result = bystander.run(*words)

    assert (result.exit_code, result.stdout) == (code, "")
    assert told in result.stderr.splitlines()[-1]


def test_an_id_that_means_several_names_them(operator: Operator, endpoint: str) -> None:
    """A signal with two deliveries is answered by their ids, one of which is to be chosen."""
    operator.run("endpoint", "add", "other", "http://127.0.0.1:9/")
    operator.run("send", operator.file(LINE))
    listed = operator.json("deliveries", "list")

    result = operator.run("deliveries", "show", listed[0]["signal_id"])
    nobody = operator.run("deliveries", "show", str(uuid4()))

    assert result.exit_code == nobody.exit_code == 1
    assert all(line["delivery_id"] in result.stderr for line in listed)
    assert "no delivery or signal has an id that begins with" in nobody.stderr


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "next      an attempt as soon as a worker takes it"),
        ({"next_attempt_at": "clock_timestamp() + interval '90 s'"}, "next      attempt 1 at "),
        (
            {
                "status": "'sending'",
                "claim_id": "gen_random_uuid()",
                "claimed_at": "clock_timestamp() - interval '4 s'",
                "attempts": "1",
            },
            "next      attempt 1 is under way for ",
        ),
        (
            {
                "status": "'sending', wanted_end = 'cancelled'",
                "claim_id": "gen_random_uuid()",
                "attempts": "1",
            },
            "under way for ?; then it ends cancelled, unless that one is accepted",
        ),
        ({"status": "'delivered'"}, "next      nothing: it is finished"),
        (
            {"status": "'expired'", "expires_at": "clock_timestamp() - interval '1 s'"},
            "--even-expired --ttl SPAN",
        ),
    ],
)
def test_a_story_says_what_happens_next(
    operator: Operator, endpoint: str, engine: Engine, changes: dict[str, str], told: str
) -> None:
    """Whatever the status is, the story ends with what will happen, or what a person can do."""
    operator.run("send", operator.file(LINE))
    [line] = operator.json("deliveries", "list")
    with engine.begin() as conn:
        for name, value in {**changes, "attempts": changes.get("attempts", "0")}.items():
            if name not in ("status", "claim_id"):
                conn.execute(text(f"UPDATE signalpost.deliveries SET {name} = {value}"))
        both = {name: changes[name] for name in ("status", "claim_id") if name in changes}
        if both:
            assignments = ", ".join(f"{name} = {value}" for name, value in both.items())
            conn.execute(text(f"UPDATE signalpost.deliveries SET {assignments}"))

    assert told in operator.run("deliveries", "show", line["delivery_id"]).stdout


def test_the_status_is_one_screen(operator: Operator, dead_letter: UUID, engine: Engine) -> None:
    """It tells servers, waiting, dead letters, alerts, workers and endpoints in trouble."""
    with engine.begin() as conn:
        finished(conn, "delivered")
        rows.add_alert(conn, kind="dead", delivery_id=dead_letter)

    told = operator.run("status", HMAC_PRODUCER_ENABLED="false").stdout
    content = operator.json("status")

    for part in (
        "up  127.0.0.1:",
        "DISABLED by HMAC_PRODUCER_ENABLED=false",
        "0 pending, 0 sending; nothing is due",
        "1 dead, 0 expired",
        "1 delivered",
        "1 unsent, the oldest for",
        "host:42  alive",
        "desk                 0                    1                     timeout",
    ):
        assert part in told, part
    assert content["dead_letters"] == {"dead": 1, "expired": 0}
    assert content["redis_state"] == "up"
    assert content["sending_enabled"] is True
    assert content["workers"][0]["name"] == "host:42"


def test_a_status_fits_on_a_screen(operator: Operator, dead_letter: UUID, engine: Engine) -> None:
    """With two workers and one endpoint in trouble it has no more than 24 lines of 80."""
    with engine.begin() as conn:
        rows.add_worker(conn, name="a-host-name:123456")
    lines = operator.run("status").stdout.splitlines()

    # The folder of a stack may have any length; the place it stands in is the last of its line.
    assert max(len(line.partition(" (")[0]) for line in lines) <= 80
    assert len(lines) + 2 <= 24


def test_a_status_tells_rates_and_queues(operator: Operator, endpoint: str, redis_url: str) -> None:
    """What went through of late is a rate, what waits in Redis a number for each queue."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        operator.run("send", operator.file(LINE, {**LINE, "instrument": "IBM"}))

    told = operator.run("status").stdout
    content = operator.json("status")

    assert "enqueued 0.4/min, delivered 0/min" in told
    assert "2 deliver, 0 drain, 0 alerts, 0 upkeep, 0 unacknowledged" in told
    assert content["queues"]["deliver"] == 2
    assert content["recently"]["enqueued"] == 2


def test_a_status_without_redis_or_with_a_wrong_password_still_answers(bystander: Operator) -> None:
    """Redis being down is told as a state, without its password, and is no failure."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        down = bystander.run(
            "status", REDIS_URL=f"redis://:battery@127.0.0.1:{closed.getsockname()[1]}"
        )
    tail = bystander.environment["REDIS_URL"].rpartition("@")[2]
    wrong = bystander.run("status", REDIS_URL=f"redis://:battery@{tail}")

    assert (down.exit_code, wrong.exit_code) == (0, 0)
    assert "down (ConnectionError)" in down.stdout
    assert "down (it refuses the password)" in wrong.stdout
    assert "battery" not in down.output + wrong.output


def test_a_terminal_gets_colours_unless_it_wants_none(operator: Operator, endpoint: str) -> None:
    """On a terminal tables are drawn with colours, and NO_COLOR turns them off."""

    def on_a_terminal(**more: str) -> str:
        mine, theirs = pty.openpty()
        environment = {**clean_environment(), **operator.environment, "TERM": "xterm", **more}
        shown = subprocess.Popen(
            signalpost("deliveries", "list"), stdout=theirs, stderr=theirs, env=environment
        )
        os.close(theirs)
        content = b""
        try:
            while piece := os.read(mine, 65536):
                content += piece
        except OSError:
            pass  # the other side is closed
        os.close(mine)
        assert shown.wait(20) == 0
        return content.decode()

    operator.run("send", operator.file(LINE))

    assert "\x1b[33m" in on_a_terminal()
    assert "\x1b[33m" not in on_a_terminal(NO_COLOR="1")
