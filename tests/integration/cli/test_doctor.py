from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from sqlalchemy import Engine

from signalpost.demo.telegram_standin import running_standin
from signalpost.secretbox import SecretBox
from tests import receivers, rows
from tests.integration.cli.operators import Operator, Result
from tests.raw_receiver import RawReceiver

TOKEN = "123456:not-a-real-bot"
CHAT = "4711"


def examined(operator: Operator, *words: str, **more: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the findings by their checks."""
    return read(operator.run("doctor", "--json", *words, **more))


def read(result: Result) -> tuple[int, dict[str, dict[str, Any]]]:
    findings = json.loads(result.stdout)
    return result.exit_code, {finding["check"]: finding for finding in findings}


def nobody() -> int:
    """A port that nobody listens on."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
        return port


async def test_nothing_is_posted_unless_asked_for(operator: Operator, engine: Engine) -> None:
    """Without --post a receiver sees a connection and no request; with it one signed test."""
    with engine.begin() as conn:
        rows.add_worker(conn)
    async with receivers.receiver() as receiver:
        await asyncio.to_thread(operator.run, "endpoint", "add", "desk", receiver.url)
        quiet = await asyncio.to_thread(operator.run, "doctor", "--json")
        seen_before = list(receiver.seen)
        posted = await asyncio.to_thread(operator.run, "doctor", "--json", "--post")

    _, findings = read(quiet)
    assert findings["endpoint desk"]["state"] == "ok"
    assert "nothing was posted" in findings["endpoint desk"]["told"]
    assert seen_before == []
    assert "answered 201" in read(posted)[1]["endpoint desk"]["told"]
    assert len(receiver.seen) == 1
    for check in ("settings", "database", "schema", "clock", "secrets", "workers", "redis"):
        assert findings[check]["state"] == "ok", findings[check]


@pytest.mark.parametrize(
    ("days", "state", "told"),
    [
        (60, "ok", "DNS, TCP and TLS"),
        (5, "warning", "its certificate ends in 4 days"),
        (-1, "failure", "certificate has expired"),
    ],
)
async def test_a_certificate_is_looked_at(
    operator: Operator, tmp_path: Path, days: int, state: str, told: str
) -> None:
    """One that ends soon is a warning before it is a failure; nothing is posted for it."""
    authority = trustme.CA()
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    end = datetime.now(UTC) + timedelta(days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(
        "127.0.0.1", not_before=end - timedelta(days=90), not_after=end
    ).configure_cert(context)
    async with RawReceiver(tls=context) as receiver:
        url = f"https://127.0.0.1:{receiver.port}/in"
        await asyncio.to_thread(operator.run, "endpoint", "add", "desk", url)
        result = await asyncio.to_thread(
            operator.run, "doctor", "--json", REDIS_URL="", SSL_CERT_FILE=str(trusted)
        )

    finding = read(result)[1]["endpoint desk"]
    assert (finding["state"], told in finding["told"]) == (state, True), finding


def test_each_line_says_what_to_do(operator: Operator) -> None:
    """For a person: a state, a check, what was seen and the remedy; then the counts; no secret."""
    result = operator.run("doctor", OPS_TELEGRAM_BOT_TOKEN="", REDIS_URL="")
    lines = result.stdout.splitlines()

    assert result.exit_code == 1
    assert result.stderr == ""
    assert any(line.startswith("failure  workers") for line in lines)
    assert any(line.startswith("warning  redis ") and "set REDIS_URL" in line for line in lines)
    assert any(line.startswith("skipped  celery") for line in lines)
    assert "failure" in lines[-1]
    assert operator.keys not in result.output
    password = operator.environment["DATABASE_URL"].partition("@")[0].rpartition(":")[2]
    assert password not in result.output


def test_an_unreachable_database_skips_what_needs_it(bystander: Operator) -> None:
    """The failure is told once; what depends on it says so; what does not is looked at."""
    url = f"postgresql://u:correct-horse@127.0.0.1:{nobody()}/x"
    code, findings = examined(bystander, DATABASE_URL=url)

    assert code == 1
    assert findings["database"]["state"] == "failure"
    for check in ("schema", "clock", "secrets", "workers", "deliveries", "alerts", "endpoints"):
        assert findings[check]["state"] == "skipped", check
    assert findings["redis"]["state"] == "ok"
    assert "correct-horse" not in str(findings)


def test_servers_that_never_answer_do_not_hold_it_up(bystander: Operator) -> None:
    """A server that accepts and says nothing costs seconds, and all of them at the same time."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        place = f"127.0.0.1:{mute.getsockname()[1]}"
        began = time.monotonic()
        code, findings = examined(
            bystander,
            DATABASE_URL=f"postgresql://u@{place}/x",
            REDIS_URL=f"redis://{place}/0",
        )
        took = time.monotonic() - began

    assert code == 1
    assert (findings["database"]["state"], findings["redis"]["state"]) == ("failure", "failure")
    assert took < 15


def test_a_wrong_setting_is_the_first_failure(bystander: Operator) -> None:
    """Where the settings cannot be read all else is skipped, and the value is not shown."""
    code, findings = examined(bystander, MAX_RETRIES="a-secret-mistake")

    assert code == 1
    assert findings["settings"]["told"] == "MAX_RETRIES must be a whole number"
    assert findings["database"]["state"] == "skipped"
    assert "a-secret-mistake" not in str(findings)


@pytest.mark.parametrize(
    ("more", "check", "told"),
    [
        ({"SECRET_KEYS": ""}, "secrets", "SECRET_KEYS is not set"),
        ({"SECRET_KEYS": SecretBox.new_key()}, "secrets", "those of desk cannot be decrypted"),
        ({"OUTBOUND_SERVER_URL": "https://x.example/"}, "settings", "HMAC_PRODUCER_SECRET"),
        ({"OUTBOUND_ALLOW_NETWORKS": ""}, "endpoint desk", "its address is refused"),
    ],
)
def test_what_would_stop_deliveries_is_a_failure(
    bystander: Operator, more: dict[str, str], check: str, told: str
) -> None:
    """Lost keys, half a default endpoint, an address that is refused."""
    code, findings = examined(bystander, REDIS_URL="", **more)

    assert code == 1
    assert findings[check]["state"] == "failure"
    assert told in findings[check]["told"]
    assert findings[check]["remedy"]


def test_nobody_at_work_and_nobody_at_home_is_a_failure(bystander: Operator) -> None:
    """Without workers nothing is sent, and a receiver that is not there gets nothing."""
    code, findings = examined(bystander)

    assert code == 1
    for check, told in (
        ("endpoint desk", "it cannot be reached (connection refused)"),
        ("workers", "no deliver worker is alive"),
        ("celery", "no deliver and no ops worker answers"),
    ):
        assert findings[check]["state"] == "failure"
        assert told in findings[check]["told"]


def test_a_redis_with_another_password_is_told(bystander: Operator) -> None:
    """A password that Redis refuses is named as such, and not shown."""
    place = bystander.environment["REDIS_URL"].rpartition("@")[2]
    _, findings = examined(bystander, REDIS_URL=f"redis://:correct-horse@{place}")

    assert "refuses the password" in findings["redis"]["told"]
    assert findings["redis policy"]["state"] == "skipped"
    assert "correct-horse" not in str(findings)


@pytest.mark.parametrize(
    ("token", "chat", "state", "told"),
    [
        (TOKEN, CHAT, "ok", "bot @signalpost_bot writes to the private chat 4711"),
        ("123456:another", CHAT, "failure", "refuses the bot's token"),
        (TOKEN, "1", "failure", "does not know the chat"),
    ],
)
def test_telegram_is_asked_for_bot_and_chat(
    bystander: Operator, token: str, chat: str, state: str, told: str
) -> None:
    """A wrong token and a wrong chat are told apart; nothing is sent, and no token shown."""
    with running_standin(token=TOKEN, chat_id=CHAT) as standin:
        _, findings = examined(
            bystander,
            REDIS_URL="",
            OPS_TELEGRAM_BOT_TOKEN=token,
            OPS_TELEGRAM_CHAT_ID=chat,
            OPS_TELEGRAM_BASE_URL=standin.base_url,
        )

    assert findings["telegram"]["state"] == state
    assert told in findings["telegram"]["told"]
    assert standin.messages == []
    assert token not in str(findings)
