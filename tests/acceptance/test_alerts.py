"""A real ops worker, and what reaches the operator's chat through it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text

from signalpost.demo.telegram_standin import TelegramStandIn, running_standin
from tests import rows
from tests.processes import Program, signalpost, wait_for

TOKEN = f"123456:{secrets.token_urlsafe(20)}"
CHAT = "4711"
NOBODY = "redis://127.0.0.1:1/0"

UNTOLD = text("""
SELECT count(*) FROM signalpost.deliveries d
WHERE NOT EXISTS (
    SELECT FROM signalpost.alerts a
    WHERE a.delivery_id = d.id AND a.sent_at IS NOT NULL AND a.receipt = ANY(:receipts))
""")


@pytest.fixture
def standin() -> Iterator[TelegramStandIn]:
    with running_standin(token=TOKEN, chat_id=CHAT) as running:
        yield running


def test_a_storm_reaches_the_chat_in_few_messages_without_redis_and_through_a_kill(
    engine: Engine, database_url: str, standin: TelegramStandIn
) -> None:
    """With no Redis, no deliver worker and an ops worker killed in mid-storm, a hundred ended
    deliveries are a few messages, and each delivery is linked to one that arrived.
    """
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": NOBODY,
        "OPS_TELEGRAM_BOT_TOKEN": TOKEN,
        "OPS_TELEGRAM_CHAT_ID": CHAT,
        "OPS_TELEGRAM_BASE_URL": standin.base_url,
        "ALERT_WINDOW_SECONDS": "3",
    }
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection, name="desk")
        now = rows.database_now(connection)
        for _ in range(50):
            ends = now - timedelta(seconds=1)
            rows.add_delivery(connection, endpoint_id=endpoint_id, expires_at=ends)

    def untold() -> int:
        receipts = [str(message.message_id) for message in standin.messages]
        with engine.connect() as connection:
            return int(connection.execute(UNTOLD, {"receipts": receipts}).scalar_one())

    command = signalpost("worker", "--role", "ops")
    with Program(command, env=environment) as first:
        wait_for(lambda: untold() == 0, 30)
        with engine.begin() as connection:
            now = rows.database_now(connection)
            for number in range(50):
                ends = now + timedelta(seconds=number / 20)
                rows.add_delivery(connection, endpoint_id=endpoint_id, expires_at=ends)
        first.kill()
    with Program(command, env=environment) as second:
        wait_for(lambda: untold() == 0, 40)
    titles = [message.plain.splitlines()[0] for message in standin.messages]
    storm = [title for title in titles if "xpired" in title]
    assert 2 <= len(storm) <= 6, titles
    counts = [re.match(r"(\d+) expired deliveries", title) for title in storm]
    assert sum(int(found[1]) if found else 1 for found in counts) == 100
    assert TOKEN not in first.output + second.output
