from __future__ import annotations

import secrets
from collections.abc import Iterator
from uuid import UUID

import pytest
import redis
from sqlalchemy import Engine, select, text

from signalpost.demo import telegram_standin
from signalpost.demo.telegram_standin import TelegramStandIn, running_standin
from signalpost.models import AuditRow
from tests import rows
from tests.integration.cli.operators import Operator

TOKEN = f"123456:{secrets.token_urlsafe(20)}"
CHAT = "4711"


@pytest.fixture(scope="module")
def standin() -> Iterator[TelegramStandIn]:
    with running_standin(token=TOKEN, chat_id=CHAT) as running:
        yield running


@pytest.fixture
def telegram(standin: TelegramStandIn) -> dict[str, str]:
    standin.heal()
    return {
        "OPS_TELEGRAM_BOT_TOKEN": TOKEN,
        "OPS_TELEGRAM_CHAT_ID": CHAT,
        "OPS_TELEGRAM_BASE_URL": standin.base_url,
    }


def test_alerts_are_listed_with_what_became_of_them(
    operator: Operator, dead_letter: UUID, engine: Engine
) -> None:
    """The list says what each is about, and its receipt, or why it is unsent; filters narrow it."""
    with engine.begin() as conn:
        notice = rows.add_alert(
            conn, kind="clock_off", subject="host:1", error="Telegram\x1b[2J", tries=3
        )
    shown = operator.run("alerts", "list").stdout.splitlines()
    assert len(shown) == 3
    assert "unsent after 3 tries: Telegram\\x1b[2J" in shown[1]
    assert f"{dead_letter} AAPL buy to desk" in shown[2]
    assert shown[2].endswith("receipt 1")
    operator.run("endpoint", "pause", "desk", "--reason", "news")
    [_, paused, *_] = operator.run("alerts", "list", "--unsent").stdout.splitlines()
    assert "endpoint desk; " in paused
    assert "False" not in paused
    with engine.begin() as conn:
        conn.execute(text("DELETE FROM signalpost.alerts WHERE kind = 'paused'"))
    [unsent] = operator.json("alerts", "list", "--unsent")
    assert (unsent["alert_id"], unsent["subject"], unsent["receipt"]) == (notice, "host:1", None)
    [dead] = operator.json("alerts", "list", "--kind", "dead", "--since", "1h")
    assert (dead["delivery_id"], dead["status"]) == (str(dead_letter), "dead")
    assert operator.json("alerts", "list", "--since", "2100-01-01T00:00:00Z") == []
    more = operator.run("alerts", "list", "--limit", "1")
    assert "--limit shows more" in more.stderr


def test_an_alert_is_sent_again_once_asked_for(
    operator: Operator, dead_letter: UUID, engine: Engine, redis_url: str
) -> None:
    """A sent alert becomes due again, audited and announced; what cannot be resent says why."""
    [alert] = operator.json("alerts", "list")
    with engine.begin() as conn:
        common = {"kind": "redis_gone", "sent_at": text("now()"), "receipt": "7"}
        first, quiet = rows.add_alert(conn, **common), rows.add_alert(conn, **common)
    again = operator.run("alerts", "resend", str(alert["alert_id"]))
    assert again.exit_code == 0
    assert "goes out within 60 s" in again.stdout
    [unsent] = operator.json("alerts", "list", "--unsent")
    assert (unsent["delivery_id"], unsent["tries"]) == (str(dead_letter), 0)
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("alerts") == 1
    with engine.connect() as conn:
        entry = conn.execute(select(AuditRow).where(AuditRow.action == "resend")).one()
    assert entry.before["receipt"] == "1"

    words = ("alerts", "resend", str(alert["alert_id"]), "999999", str(quiet))
    refused = operator.run(*words, ALERT_QUIET_KINDS="redis_gone")
    assert refused.exit_code == 1
    for reason in ("not been sent yet", "no alert of this id", "among ALERT_QUIET_KINDS"):
        assert reason in refused.stdout
    both = operator.run("alerts", "resend", str(quiet), str(first))
    assert both.exit_code == 1
    assert "the same notice waits to be sent already" in both.stdout


def test_a_test_message_shows_its_receipt(
    bystander: Operator, telegram: dict[str, str], standin: TelegramStandIn
) -> None:
    """`alerts test` sends now, without a database, as all alerts are sent; it shows the message's
    id.
    """
    told = bystander.run("alerts", "test", DATABASE_URL="", REDIS_URL="", **telegram)
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout == f"sent to chat {CHAT}, receipt {standin.messages[-1].message_id}\n"
    assert standin.messages[-1].plain.startswith("Test: alerts of signalpost reach this chat.")
    assert bystander.json("alerts", "test", **telegram)["chat"] == CHAT


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (telegram_standin.WRONG_CHAT, "check OPS_TELEGRAM_CHAT_ID"),
        (telegram_standin.WRONG_TOKEN, "correct OPS_TELEGRAM_BOT_TOKEN"),
        (telegram_standin.too_many(90), "Telegram asks for a pause; try again in 2 min"),
        (telegram_standin.CUT, "Telegram cannot be reached"),
    ],
)
def test_a_test_that_fails_is_one_line(
    bystander: Operator,
    telegram: dict[str, str],
    standin: TelegramStandIn,
    fault: telegram_standin.Fault,
    said: str,
) -> None:
    """What Telegram answered and what to do stand in one line, without the token; exit code 1."""
    standin.fail(fault)
    failed = bystander.run("alerts", "test", **telegram)
    assert failed.exit_code == 1
    assert said in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert TOKEN not in failed.output


def test_a_test_without_telegram_says_what_to_set(bystander: Operator) -> None:
    """Where no Telegram is set up the test fails with the two variables' names."""
    failed = bystander.run("alerts", "test")
    assert failed.exit_code == 1
    assert "set OPS_TELEGRAM_BOT_TOKEN and OPS_TELEGRAM_CHAT_ID" in failed.stderr
