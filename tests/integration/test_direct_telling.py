"""A word to the owner: stored as an alert, sent by the ops worker's own means."""

from __future__ import annotations

import asyncio
import socket
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from signalpost.alerts import Receipt, send_due
from signalpost.database import async_engine
from signalpost.direct import (
    AlertError,
    NetworkError,
    send_owner_alert,
    send_owner_alert_async,
    send_signal_delivery_error,
    send_signal_delivery_error_async,
)
from tests.databases import cloned
from tests.producing import make_signal


def stored(engine: Engine) -> list[tuple[int, str, dict[str, str]]]:
    statement = text("SELECT id, kind, details FROM signalpost.alerts ORDER BY id")
    with engine.connect() as connection:
        return [(row.id, row.kind, row.details) for row in connection.execute(statement)]


async def test_a_text_is_stored_as_an_alert(engine: Engine, database_url: str) -> None:
    """When the call returns the alert is in the outbox, due at once; each text is its own."""
    first = send_owner_alert("disk <90 %> full\nlook", database_url=database_url, environ={})
    second = await send_owner_alert_async("margin call", database_url=database_url, environ={})
    assert stored(engine) == [
        (first, "owner", {"text": "disk <90 %> full\nlook"}),
        (second, "owner", {"text": "margin call"}),
    ]


class Reader:
    """A courier that keeps what the operator would read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    async def deliver(self, text_html: str) -> Receipt:
        self.read.append(text_html)
        return Receipt(f"message {len(self.read)}")


async def test_the_operator_reads_it_and_it_is_receipted(engine: Engine, database_url: str) -> None:
    """The ops worker's own sending brings the words to the operator and stores the receipt."""
    send_owner_alert("disk <90 %> full", database_url=database_url, environ={})
    send_signal_delivery_error("7", "no answer", 6, database_url=database_url, environ={})
    reader, outbox = Reader(), async_engine(database_url)
    sent = await send_due(outbox, reader)
    await outbox.dispose()
    assert [one.receipt for one in sent] == ["message 1", "message 2"]
    assert any("disk &lt;90 %&gt; full" in text for text in reader.read)
    assert any("signal <code>7</code>" in text and "no answer" in text for text in reader.read)
    with engine.connect() as connection:
        receipts = connection.scalars(text("SELECT receipt FROM signalpost.alerts")).all()
    assert sorted(receipts) == ["message 1", "message 2"]


def test_the_same_text_is_one_alert_until_it_is_sent(engine: Engine, database_url: str) -> None:
    """Called again, after an unclear end say, nothing is told twice; once sent, it is told anew."""
    first = send_owner_alert("margin call", database_url=database_url, environ={})
    assert send_owner_alert("margin call", database_url=database_url, environ={}) == first
    with engine.begin() as connection:
        connection.execute(text("UPDATE signalpost.alerts SET sent_at = now(), receipt = 'log'"))
    assert send_owner_alert("margin call", database_url=database_url, environ={}) != first
    assert len(stored(engine)) == 2


async def test_a_delivery_error_tells_signal_attempts_and_error(
    engine: Engine, database_url: str
) -> None:
    """Of our errors the text is told, of foreign ones the class: their text may hold anything."""
    signal_id = uuid4()
    send_signal_delivery_error(
        signal_id, NetworkError("nobody there"), 6, database_url=database_url, environ={}
    )
    await send_signal_delivery_error_async(
        make_signal(id=signal_id),
        OSError("https://alice:wonderland@desk.example"),
        6,
        database_url=database_url,
        environ={},
    )
    assert [(kind, details) for _, kind, details in stored(engine)] == [
        (
            "delivery_error",
            {
                "signal": str(signal_id),
                "attempts": "6",
                "error": "NetworkError: nobody there",
            },
        ),
        (
            "delivery_error",
            {"signal": str(signal_id), "attempts": "6", "error": "OSError"},
        ),
    ]


def test_what_a_database_cannot_hold_is_shown_as_a_question(
    engine: Engine, database_url: str
) -> None:
    """NUL, half characters and controls become question marks instead of an error."""
    send_owner_alert("a\0b \ud800 \x1b[31m é", database_url=database_url, environ={})
    assert stored(engine)[0][2] == {"text": "a?b ? ?[31m é"}


@pytest.mark.parametrize("words", ["", "  \n ", "x" * 2001])
def test_a_text_must_be_one(database_url: str, words: str) -> None:
    """Nothing, and more than a message holds, are refused in one line."""
    with pytest.raises(AlertError, match="1 to 2000 characters"):
        send_owner_alert(words, database_url=database_url, environ={})


async def test_a_database_that_is_away_is_told(postgres_server: str) -> None:
    """If the alert was not stored the caller is told so in time, and by an error of ours."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        silent = f"postgresql://alice:wonderland@127.0.0.1:{port}/trading"
        async with asyncio.timeout(2):
            with pytest.raises(AlertError, match=r"not stored.*call again with the same alert"):
                await send_owner_alert_async("x", database_url=silent, environ={}, timeout=0.3)
    with pytest.raises(AlertError, match=r"not stored.*check DATABASE_URL") as caught:
        send_owner_alert("x", database_url=silent, environ={})
    assert "wonderland" not in str(caught.value)
    with (
        cloned(postgres_server, "template1") as url,
        pytest.raises(AlertError, match="signalpost migrate"),
    ):
        send_owner_alert("x", database_url=url, environ={})
