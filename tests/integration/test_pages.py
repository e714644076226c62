"""What docs/producing.md, trading.md and receiving.md show does what they say, run as it is."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from standardwebhooks.webhooks import WebhookVerificationError

from signalpost import Producer, Signal
from signalpost.core.signing import Outgoing, secret_bytes, sign
from signalpost.models import AuditRow
from signalpost.repository.claims import claim_due
from signalpost.repository.endpoints import NewEndpoint, add_endpoint, new_secret
from signalpost.repository.evidence import gather
from signalpost.secretbox import SecretBox
from signalpost.settings import load_settings
from tests.pages import Shown
from tests.receivers import accept, receiver, status

URL = "https://desk.example/signals"


def _signal(minute: int) -> Signal:
    return Signal(
        instrument="AAPL",
        side="buy",
        entry_price="189.50",
        stop_loss="184.00",
        take_profit="199.00",
        confidence="0.82",
        reason="a test",
        timestamp=datetime(2026, 3, 2, 21, minute, tzinfo=UTC),
    )


@pytest.fixture
def producer(
    engine: Engine, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Producer]:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    box = SecretBox([SecretBox.new_key()])
    with engine.begin() as connection:
        settings = load_settings({"DATABASE_URL": database_url})
        for name in ("desk", "journal"):
            new = NewEndpoint(name, URL, new_secret())
            add_endpoint(connection, new, settings, box, actor="test")
    with Producer(producer_id="momentum-1") as made:
        yield made


def test_the_producing_page_works(
    producer: Producer,
    engine: Engine,
    shown_on: Callable[[str], Shown],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each way of enqueuing on the page puts its signals into the outbox, to whom it says."""
    shown = shown_on("docs/producing.md")
    shown["producer"].close()

    def deliveries() -> int:
        with engine.begin() as connection:
            return len(gather(connection).deliveries)

    assert deliveries() == 2, "the first block enqueues one signal to both"
    shown["decide"](producer, _signal(1), 7)
    assert not capsys.readouterr().out
    shown["decide"](producer, _signal(1), 7)
    assert capsys.readouterr().out == "already known: ['pending', 'pending']\n"
    assert deliveries() == 4
    shown["route"](producer, _signal(2))
    assert deliveries() == 4 + 2 + 1 + 2 + 2
    asyncio.run(shown["on_bar"](producer, _signal(3)))
    assert deliveries() == 13
    with Session(engine) as session:
        row = AuditRow(actor="strategy", action="a position", subject="AAPL")
        shown["book_and_enqueue"](producer, session, row, _signal(4))
    assert deliveries() == 15
    assert shown["backfill"](producer, [_signal(4), _signal(5), _signal(6)]) == 2
    shown["enqueue_surely"](producer, _signal(7))
    assert deliveries() == 21
    asyncio.run(_sent_directly(shown, monkeypatch, capsys))


def test_the_trading_page_works(
    producer: Producer, engine: Engine, shown_on: Callable[[str], Shown]
) -> None:
    """A better plan ends the first one that waits; an exit takes back its entry and goes first."""
    shown = shown_on("docs/trading.md")

    def standing() -> Counter[tuple[str, int]]:
        with engine.begin() as connection:
            statement = "SELECT status, priority FROM signalpost.deliveries"
            return Counter(
                (row.status, row.priority) for row in connection.execute(text(statement))
            )

    shown["replan"](producer, _signal(1), _signal(2))
    assert standing() == {("superseded", 0): 2, ("pending", 0): 2}
    shown["leave"](producer, _signal(3), _signal(4))
    assert standing() == {("superseded", 0): 4, ("pending", 0): 2, ("pending", 1): 2}
    with engine.begin() as connection:
        # An exit never overtakes its own instrument, so what was planned before goes first.
        for priority in (0, 1):
            found = claim_due(connection, worker_id=uuid4(), limit=9).claims
            assert [claim.priority for claim in found] == [priority] * 2
            connection.execute(
                text(
                    "UPDATE signalpost.deliveries SET status = 'delivered', claim_id = NULL"
                    " WHERE status = 'sending'"
                )
            )


async def _sent_directly(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUTBOUND_ALLOW_NETWORKS", "127.0.0.0/8")
    monkeypatch.setenv("HMAC_PRODUCER_SECRET", new_secret())
    monkeypatch.setenv("PRODUCER_ID", "momentum-1")
    for answer, told in ((accept, "received "), (status(422), "refused:")):
        async with receiver(answer) as desk:
            monkeypatch.setenv("OUTBOUND_SERVER_URL", desk.url)
            await shown["send_now"](_signal(8))
            assert len(desk.seen) == 1
        assert capsys.readouterr().out.startswith(told)


def test_the_receiving_page_works(
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    shown_on: Callable[[str], Shown],
) -> None:
    """The page's apps act once, refuse what they should, and its checks give the delivery's id."""
    secret = new_secret()
    monkeypatch.setenv("SIGNALPOST_SECRET", secret)
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect("received.sqlite") as orders:
        orders.execute("CREATE TABLE orders (delivery_id TEXT, instrument TEXT, side TEXT)")
    orders.close()
    shown = shown_on("docs/receiving.md")
    app = receiver = shown["app"]()
    delivery, body = str(uuid4()), _signal(1).identified("momentum-1").body()
    outgoing = Outgoing(
        method="POST",
        authority="desk.example",
        raw_path="/signals",
        query="",
        body=body,
        producer_id="momentum-1",
        delivery_id=delivery,
        attempt=1,
        expires_at=None,
        replayed=False,
        sequence=None,
        timestamp=datetime.now(UTC),
    )
    headers = sign(outgoing, keys=[secret_bytes(secret)], key_ids=["desk:1"])

    async def post() -> int:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.post(URL, content=body, headers=headers)).status_code

    assert [asyncio.run(post()), asyncio.run(post())] == [201, 200]
    app = shown["site"](app)
    assert asyncio.run(post()) == 200
    receiver._book.close()
    with sqlite3.connect("received.sqlite") as orders:
        assert orders.execute("SELECT * FROM orders").fetchall() == [(delivery, "AAPL", "buy")]
    orders.close()
    assert shown["check"]("POST", headers, body, secret) == delivery
    assert shown["check"]("POST", headers, body + b" ", secret) is None
    assert shown["check_by_library"](secret, body, headers) == delivery
    with pytest.raises(WebhookVerificationError):
        shown["check_by_library"](secret, body + b" ", headers)

    with psycopg.connect(database_url, autocommit=True) as desk:
        desk.execute("CREATE TABLE orders (delivery_id uuid, instrument text, side text)")
        app = receiver = shown["on_postgres"](database_url, secret)
        assert [asyncio.run(post()), asyncio.run(post())] == [201, 200]
        receiver._book.close()
        acted = desk.execute("SELECT delivery_id::text, instrument, side FROM orders").fetchall()
    assert acted == [(delivery, "AAPL", "buy")]
