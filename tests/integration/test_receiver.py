from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from signalpost.core.signals import Signal
from signalpost.core.signing import Outgoing, Profile, secret_bytes, sign
from signalpost.core.targets import wire_target
from signalpost.errors import ConfigurationError, SecretError, SignatureError
from signalpost.receiver import (
    Book,
    Misbehaving,
    Received,
    Receiver,
    Refused,
    Reply,
    Seen,
    Verdict,
)
from signalpost.verifying import verify
from tests.processes import wait_for

SECRET = "correct horse battery staple"
URL = "https://desk.example/hooks/signals"
NOW = datetime(2026, 3, 2, 12, 0, 0, 250000, UTC)


def body_of(instrument: str = "AAPL", **changes: Any) -> bytes:
    signal = Signal(
        instrument=instrument,
        side="buy",
        entry_price="101.10",
        stop_loss="99.5",
        take_profit="110",
        confidence="0.8",
        reason="crossed the line",
        timestamp=NOW,
        **changes,
    )
    return signal.identified("tests").body()


def outgoing(**changes: Any) -> Outgoing:
    facts = Outgoing(
        method="POST",
        authority="desk.example",
        raw_path="/hooks/signals",
        query="",
        body=body_of(),
        producer_id="tests",
        delivery_id=str(uuid4()),
        attempt=1,
        expires_at=NOW + timedelta(minutes=10),
        replayed=False,
        sequence=None,
        timestamp=NOW,
    )
    return replace(facts, **changes)


def signed(facts: Outgoing, secret: str = SECRET) -> dict[str, str]:
    return sign(facts, keys=[secret_bytes(secret)], key_ids=["desk:1"])


class Desk:
    """A receiver with a table of orders as its effect, and a client that reaches it."""

    def __init__(self, folder: Path) -> None:
        self.book = Book(folder / "book.sqlite")
        self.now = NOW
        self.seen: list[Seen] = []
        self.release = threading.Event()
        self.release.set()
        self.entered = threading.Event()
        self.reply: Reply | None = None
        self.error: Exception | None = None
        self.file = folder / "book.sqlite"

    def handle(self, connection: sqlite3.Connection, received: Received) -> Reply | None:
        connection.execute("CREATE TABLE IF NOT EXISTS orders (delivery_id TEXT, instrument TEXT)")
        connection.execute(
            "INSERT INTO orders VALUES (?, ?)",
            (str(received.delivery_id), received.signal.instrument),
        )
        self.entered.set()
        self.release.wait(10)
        if self.error is not None:
            raise self.error
        return self.reply

    def app(self, **changes: Any) -> Receiver:
        arguments: dict[str, Any] = {
            "secrets": [SECRET],
            "public_url": URL,
            "book": self.book,
            "handler": self.handle,
            "clock": lambda: self.now,
            "observer": self.seen.append,
        }
        return Receiver(**{**arguments, **changes})

    def orders(self) -> int:
        with sqlite3.connect(self.file) as connection:
            tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'orders'")
            if tables.fetchone() is None:
                return 0
            return int(connection.execute("SELECT count(*) FROM orders").fetchone()[0])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.release.set()
    desk.book.close()


async def post(
    app: Any, facts: Outgoing, headers: dict[str, str] | None = None, path: str = "/hooks/signals"
) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1") as client:
        return await client.post(
            path, content=facts.body, headers=signed(facts) if headers is None else headers
        )


async def test_a_signal_is_accepted_and_answered(desk: Desk) -> None:
    """A verified signal is handed over once and answered 201 with the fields of the contract."""
    facts = outgoing(sequence=7)

    answer = await post(desk.app(), facts)

    assert answer.status_code == 201
    assert answer.json() == {
        "signal_id": Signal.from_json(facts.body).model_dump(mode="json")["id"],
        "status": "received",
        "server_timestamp": "2026-03-02T12:00:00.250000Z",
        "message": "",
        "errors": [],
    }
    assert desk.orders() == 1
    assert desk.seen[0].verdict is Verdict.ACCEPTED
    with sqlite3.connect(desk.file) as connection:
        kept = connection.execute("SELECT delivery_id, attempt, sequence FROM signalpost_received")
        assert kept.fetchall() == [(facts.delivery_id, 1, 7)]


async def test_a_duplicate_gets_the_first_answer(desk: Desk) -> None:
    """A later attempt of an accepted delivery is answered 200 as before, and has no effect."""
    desk.reply = Reply("pending_approval", "the risk desk looks at it")
    facts = outgoing()
    app = desk.app()
    await post(app, facts)

    answer = await post(app, replace(facts, attempt=2))

    assert answer.status_code == 200
    assert answer.json()["status"] == "pending_approval"
    assert answer.json()["message"] == "the risk desk looks at it"
    assert desk.orders() == 1


async def test_a_duplicate_of_one_under_way_is_asked_to_come_again(desk: Desk) -> None:
    """While a delivery is being dealt with, its duplicate gets 503 with Retry-After."""
    desk.release.clear()
    facts = outgoing()
    app = desk.app()
    first = asyncio.create_task(post(app, facts))
    await asyncio.to_thread(desk.entered.wait, 10)

    second = await post(app, replace(facts, attempt=2))
    desk.release.set()

    assert second.status_code == 503
    assert second.headers["retry-after"] == "1"
    assert (await first).status_code == 201
    assert (await post(app, replace(facts, attempt=3))).status_code == 200
    assert desk.orders() == 1


async def test_a_request_that_is_given_up_keeps_its_key_taken(desk: Desk) -> None:
    """A sender that goes away does not free the key of a delivery whose handler still runs."""
    desk.release.clear()
    facts = outgoing()
    app = desk.app()
    first = asyncio.create_task(post(app, facts))
    await asyncio.to_thread(desk.entered.wait, 10)
    first.cancel()
    await asyncio.wait({first})

    assert (await post(app, replace(facts, attempt=2))).status_code == 503
    desk.release.set()
    await asyncio.to_thread(wait_for, lambda: not desk.book._under_way)

    assert (await post(app, replace(facts, attempt=3))).status_code == 200
    assert desk.orders() == 1


async def test_a_book_that_another_process_writes_is_busy(desk: Desk, tmp_path: Path) -> None:
    """A book held by another process for too long is 503 with Retry-After, not a failure."""
    impatient = Book(tmp_path / "book.sqlite", busy_seconds=0.05)
    with sqlite3.connect(desk.file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        answer = await post(desk.app(book=impatient), outgoing())
        other.execute("ROLLBACK")
    impatient.close()

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


async def unverified() -> AsyncIterator[tuple[str, dict[str, str]]]:
    facts = outgoing()
    yield "no signature", {"content-type": "application/json"}
    yield "another secret", signed(facts, "another secret of the same kind")
    yield "too old", signed(replace(facts, timestamp=NOW - timedelta(seconds=301)))
    yield "another host", signed(replace(facts, authority="evil.example"))
    yield "another path", signed(replace(facts, raw_path="/hooks/other"))
    yield "another key", {**signed(facts), "X-Idempotency-Key": str(uuid4())}
    yield "another expiry", {**signed(facts), "X-Signalpost-Expires-At": "never"}


async def test_what_is_not_verifiably_from_the_producer_is_401(desk: Desk) -> None:
    """Whatever the signature does not prove is answered 401 and consumes nothing."""
    async for what, headers in unverified():
        answer = await post(desk.app(), outgoing(), headers)
        assert answer.status_code == 401, what
        assert answer.json()["status"] == "rejected", what
    assert desk.orders() == 0


async def test_ids_that_differ_are_refused_in_every_profile(desk: Desk) -> None:
    """A webhook-id that differs from X-Idempotency-Key is refused, though one alone verifies."""
    facts = outgoing()
    for profile in Profile:
        headers = {**signed(facts), "X-Idempotency-Key": str(uuid4())}
        assert (await post(desk.app(profile=profile), facts, headers)).status_code == 401
    assert (await post(desk.app(), facts)).status_code == 201


async def test_a_profile_is_never_exchanged_for_another(desk: Desk) -> None:
    """A receiver of one profile does not accept the proofs of the two others."""
    facts = outgoing()
    own = {
        Profile.RFC9421: ("Signature", "Signature-Input"),
        Profile.STANDARD: ("webhook-signature",),
        Profile.CANONICAL: ("X-Signature",),
    }
    for profile, names in own.items():
        headers = {name: value for name, value in signed(facts).items() if name not in names}
        answer = await post(desk.app(profile=profile), facts, headers)
        assert answer.status_code == 401, profile


@pytest.mark.parametrize("sized", [True, False])
async def test_a_body_over_the_limit_is_413_without_being_read(desk: Desk, sized: bool) -> None:
    """More bytes than allowed are refused as soon as that is known, with a length or without."""
    read = 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1000
            yield b"x" * 1000

    headers = {"content-length": "1000000"} if sized else {}
    transport = httpx.ASGITransport(app=desk.app(max_body_bytes=4096))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1") as client:
        answer = await client.post("/hooks/signals", content=content(), headers=headers)

    assert answer.status_code == 413
    assert read <= (0 if sized else 5000)


async def test_a_body_that_does_not_come_is_408(desk: Desk) -> None:
    """A sender that holds its body back is answered 408 after the receiver's own time."""
    never = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    transport = httpx.ASGITransport(app=desk.app(body_timeout_seconds=0.05))
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1") as client:
        answer = await client.post("/hooks/signals", content=content())

    assert answer.status_code == 408


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[1]", "signal: must be an object"),
        (b'{"id":1', "JSON:"),
        (b'{"instrument":"AAPL"}', "side: is required"),
        (body_of().replace(b'"side":"buy"', b'"side":"hold"'), "side: must be buy or sell"),
        (Signal.from_json(body_of()).model_copy(update={"id": None}).body(), "id: is required"),
    ],
)
async def test_bad_fields_are_422_by_name(desk: Desk, body: bytes, problem: str) -> None:
    """A signal that breaks a rule is 422, names each rule, and consumes no key."""
    facts = outgoing(body=body)

    answer = await post(desk.app(), facts)

    assert answer.status_code == 422
    assert answer.json()["errors"][0].startswith(problem)
    assert (await post(desk.app(), replace(facts, body=body_of()))).status_code == 201


async def test_the_signed_expiry_rules_over_the_body(desk: Desk) -> None:
    """What counts is the delivery's signed expiry: a replay's new life over the body's old one."""
    over = body_of(expires_at=NOW - timedelta(seconds=1))
    app = desk.app()

    replayed = await post(app, outgoing(body=over, expires_at=NOW + timedelta(seconds=60)))
    never = await post(app, outgoing(body=body_of("IBM", expires_at=NOW), expires_at=None))
    late = await post(app, outgoing(body=body_of("MSFT"), expires_at=NOW))

    assert (replayed.status_code, never.status_code, late.status_code) == (201, 201, 422)
    assert desk.seen[-1].verdict is Verdict.EXPIRED
    assert desk.orders() == 2


@pytest.mark.parametrize("profile", [Profile.STANDARD, Profile.CANONICAL])
async def test_an_unsigned_expiry_counts_for_nothing(desk: Desk, profile: Profile) -> None:
    """Where the profile does not cover the expiry header, the body's own expiry holds."""
    over = body_of(expires_at=NOW)

    answer = await post(desk.app(profile=profile), outgoing(body=over))

    assert answer.status_code == 422


async def test_a_duplicate_past_its_expiry_is_still_a_duplicate(desk: Desk) -> None:
    """What was executed in time stays 200 for a late attempt, or it would be reported as dead."""
    facts = outgoing()
    app = desk.app()
    await post(app, facts)
    desk.now = NOW + timedelta(minutes=11)

    answer = await post(app, replace(facts, attempt=2, timestamp=desk.now))

    assert answer.status_code == 200


async def test_time_spent_waiting_counts_against_the_expiry(desk: Desk) -> None:
    """A signal whose life ends while it waits for its turn is refused, not executed late."""
    desk.release.clear()
    app = desk.app()
    first = asyncio.create_task(post(app, outgoing()))
    await asyncio.to_thread(desk.entered.wait, 10)
    facts = outgoing(body=body_of("IBM"), expires_at=NOW + timedelta(seconds=5))
    second = asyncio.create_task(post(app, facts))
    await asyncio.sleep(0)
    desk.now = NOW + timedelta(seconds=6)
    desk.release.set()

    assert (await first).status_code == 201
    assert (await second).status_code == 422
    assert desk.orders() == 1


async def test_the_canonical_profile_dedupes_by_body(desk: Desk) -> None:
    """Where the key is not signed, the same body under another key is a duplicate."""
    facts = outgoing()
    app = desk.app(profile=Profile.CANONICAL)
    await post(app, facts)

    answer = await post(app, replace(facts, delivery_id=str(uuid4())))

    assert answer.status_code == 200
    assert desk.orders() == 1


@pytest.mark.parametrize("profile", list(Profile))
async def test_a_key_with_another_body_is_refused(desk: Desk, profile: Profile) -> None:
    """A known key does not swallow another signal: 422, and nothing is executed."""
    facts = outgoing()
    app = desk.app(profile=profile)
    await post(app, facts)

    answer = await post(app, replace(facts, body=body_of("IBM")))

    assert answer.status_code == 422
    assert desk.orders() == 1


async def test_a_key_that_is_no_uuid_is_422(desk: Desk) -> None:
    """A delivery's id that is no UUID is refused by name."""
    answer = await post(desk.app(), outgoing(delivery_id="not-a-uuid"))

    assert answer.status_code == 422
    assert answer.json()["errors"] == ["X-Idempotency-Key: must be a UUID"]


async def test_a_refusing_handler_leaves_nothing(desk: Desk) -> None:
    """Refused by the handler is 422 with its words; the effect is undone and the key is free."""
    desk.error = Refused("not tradable here", "instrument: is not on the list")
    facts = outgoing()
    app = desk.app()

    answer = await post(app, facts)
    desk.error = None

    assert answer.status_code == 422
    assert answer.json()["message"] == "not tradable here"
    assert answer.json()["errors"] == ["instrument: is not on the list"]
    assert desk.orders() == 0
    assert (await post(app, replace(facts, attempt=2))).status_code == 201


async def test_a_failing_handler_leaves_nothing_and_spills_nothing(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that fails is 500, undone, and its words reach neither answer nor log."""
    caplog.set_level("DEBUG")
    desk.error = ValueError("entry price 101.10 is too high")
    facts = outgoing()
    app = desk.app()

    answer = await post(app, facts)
    desk.error = None

    assert answer.status_code == 500
    assert "101.10" not in answer.text + caplog.text + repr(desk.seen)
    assert "ValueError" in desk.seen[-1].detail
    assert desk.orders() == 0
    assert (await post(app, replace(facts, attempt=2))).status_code == 201


async def test_a_handler_that_commits_is_told_off(desk: Desk) -> None:
    """A handler that ends the transaction itself fails, but its key is kept with its effect."""

    def commits(connection: sqlite3.Connection, received: Received) -> None:
        desk.handle(connection, received)
        connection.commit()

    facts = outgoing()
    app = desk.app(handler=commits)

    assert (await post(app, facts)).status_code == 500
    assert (await post(app, replace(facts, attempt=2))).status_code == 200
    assert desk.orders() == 1


@pytest.mark.parametrize(
    ("public_url", "path", "status"),
    [
        ("https://desk.example/hooks/signals", "/hooks/signals", 201),
        ("https://desk.example", "/hooks/signals", 201),
        ("https://desk.example/hooks", "/signals", 201),
        ("https://desk.example/hooks/signals", "/signals", 201),
        ("https://desk.example/hooks/signals", "/", 201),
        ("https://desk.example/hooks/signals", "/elsewhere", 401),
        ("https://other.example/hooks/signals", "/hooks/signals", 401),
    ],
)
async def test_the_url_comes_from_the_receivers_own_configuration(
    desk: Desk, public_url: str, path: str, status: int
) -> None:
    """Authority and what a proxy strips of the path come from public_url, never from Host."""
    answer = await post(desk.app(public_url=public_url), outgoing(), path=path)

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        (b".evil.example/hooks/signals", "desk.example.evil.example"),
        (b":8443/hooks/signals", "desk.example:8443"),
        (b"https://desk.example/hooks/signals", "desk.example"),
        (b"*", "desk.example"),
    ],
)
async def test_a_target_that_is_no_path_never_verifies(
    desk: Desk, target: bytes, authority: str
) -> None:
    """What stands in place of the path cannot lengthen the authority to another receiver's."""
    facts = outgoing(authority=authority)
    scope = {
        "type": "http",
        "method": "POST",
        "path": target.decode(),
        "raw_path": target,
        "headers": [(n.lower().encode(), v.encode()) for n, v in signed(facts).items()],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": facts.body}

    async def send(message: Any) -> None:
        sent.append(message)

    await desk.app(public_url="https://desk.example")(scope, receive, send)

    assert sent[0]["status"] == 401
    assert desk.orders() == 0


async def test_the_public_url_is_read_as_the_sender_reads_it(desk: Desk) -> None:
    """The URL that the operator was given works as it is, however it spells host and path."""
    url = "https://name:word@B\u00fccher.example:443/h\u00f6ok?desk=1#part"
    authority, raw_path, query = wire_target(url)
    facts = outgoing(authority=authority, raw_path=raw_path, query=query)

    answer = await post(desk.app(public_url=url), facts, path="/h%C3%B6ok?desk=1")

    assert answer.status_code == 201


async def test_an_observer_that_fails_changes_no_answer(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """What was decided is answered, whatever becomes of whoever is told of it."""

    def fails(seen: Seen) -> None:
        raise ValueError("the disk that holds 101.10 is full")

    answer = await post(desk.app(observer=fails), outgoing())

    assert answer.status_code == 201
    assert "the observer failed: ValueError" in caplog.text
    assert "101.10" not in caplog.text


async def test_the_query_is_taken_as_received(desk: Desk) -> None:
    """A query is part of what is verified, so another one is 401."""
    facts = outgoing(query="desk=1")

    wrong = await post(desk.app(), facts, path="/hooks/signals?desk=2")
    right = await post(desk.app(), facts, path="/hooks/signals?desk=1")

    assert (wrong.status_code, right.status_code) == (401, 201)


async def test_only_posts_are_served(desk: Desk) -> None:
    """Another method is 405 and says which one is allowed."""
    transport = httpx.ASGITransport(app=desk.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1") as client:
        answer = await client.get("/hooks/signals")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


async def test_it_answers_the_servers_own_questions(desk: Desk) -> None:
    """Lifespan events are confirmed and a websocket is turned away."""
    sent: list[str] = []
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await desk.app()({"type": "lifespan"}, receive, send)
    await desk.app()({"type": "websocket"}, receive, send)

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


async def test_a_sender_that_hangs_up_is_forgotten(desk: Desk) -> None:
    """A connection lost in mid-request has no effect, no verdict and no answer."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise AssertionError("nobody is left to answer")

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await desk.app()(scope, receive, send)

    assert desk.seen == []


def test_keys_are_forgotten_only_after_their_time(tmp_path: Path) -> None:
    """A key is kept for keep_days and is a new one afterwards."""
    desk = Desk(tmp_path)
    desk.book.close()
    desk.book = Book(desk.file, keep_days=40)
    facts = outgoing(expires_at=None)
    statuses = []
    for days in (0, 39, 41):
        desk.now = NOW + timedelta(days=days)
        again = replace(facts, timestamp=desk.now)
        statuses.append(asyncio.run(post(desk.app(), again)).status_code)
    desk.book.close()

    assert statuses == [201, 200, 201]


def test_arguments_that_cannot_work_are_refused(tmp_path: Path) -> None:
    """A receiver without a usable secret or URL is never made."""
    book = Book(tmp_path / "book.sqlite")
    with pytest.raises(ConfigurationError, match="secret"):
        Receiver(secrets=[], public_url=URL, book=book)
    with pytest.raises(SecretError):
        Receiver(secrets=["short"], public_url=URL, book=book)
    for url in ("desk.example", "https://", "https://desk.example:99999/", "ftp://desk.example/"):
        with pytest.raises(ConfigurationError, match="public_url"):
            Receiver(secrets=[SECRET], public_url=url, book=book)
    for seconds in (0, 3601, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="tolerance_seconds"):
            Receiver(secrets=[SECRET], public_url=URL, book=book, tolerance_seconds=seconds)
    for days in (0, -1, float("nan")):
        with pytest.raises(ConfigurationError, match="keep_days"):
            Book(tmp_path / "book.sqlite", keep_days=days)
    book.close()
    with pytest.raises(sqlite3.OperationalError):
        Book(tmp_path / "nowhere" / "book.sqlite")


def test_any_framework_can_verify() -> None:
    """The public verify takes the clock's time by itself and raises one kind of error only."""
    facts = outgoing(timestamp=datetime.now(UTC))
    verified = verify(
        method="POST", headers=signed(facts), body=facts.body, url=URL, secrets=[SECRET]
    )

    assert verified.delivery_id == facts.delivery_id
    with pytest.raises(SignatureError):
        verify(method="POST", headers={}, body=b"", url=URL, secrets=[SECRET])


_CRASHING = """
import asyncio, os, sys
sys.path.insert(0, sys.argv[3])
from tests.integration.test_receiver import *

def crash(connection, received):
    desk.handle(connection, received)
    if sys.argv[2] == "before commit":
        os._exit(9)

desk = Desk(Path(sys.argv[1]))
facts = outgoing(delivery_id="6f0c1c1e-8f0e-4b55-8a55-2d9d5d0c9f11")
app = desk.app(handler=crash)
if sys.argv[2] == "before answer":
    desk.app = lambda **_: app
    app._tell = lambda seen: os._exit(9)
asyncio.run(post(app, facts))
"""


@pytest.mark.parametrize(("moment", "status"), [("before commit", 201), ("before answer", 200)])
def test_a_crash_never_makes_an_effect_happen_twice(
    tmp_path: Path, moment: str, status: int
) -> None:
    """Killed between effect and commit, or between commit and answer: one effect in the end."""
    root = str(Path(__file__).parents[2])
    died = subprocess.run(
        [sys.executable, "-c", _CRASHING, str(tmp_path), moment, root], check=False
    )
    desk = Desk(tmp_path)
    facts = outgoing(delivery_id="6f0c1c1e-8f0e-4b55-8a55-2d9d5d0c9f11", attempt=2)

    answer = asyncio.run(post(desk.app(), facts))
    desk.book.close()

    assert died.returncode == 9
    assert answer.status_code == status
    assert desk.orders() == 1


async def test_the_next_requests_fail_as_told(desk: Desk) -> None:
    """Told to fail twice with 500, it does so unseen by the kit, and then behaves."""
    told: list[str] = []
    facts = outgoing()
    app = Misbehaving(desk.app(), fail=2, status=500, observer=told.append)

    statuses = [(await post(app, facts)).status_code for _ in range(3)]

    assert statuses == [500, 500, 201]
    assert told == [f"answered 500 as told delivery={facts.delivery_id}"] * 2
    assert app.failed == 2


async def test_a_share_of_requests_fails_by_chance(desk: Desk) -> None:
    """A failure rate is held against the chance that is drawn for each request."""
    draws = iter([0.1, 0.9, 0.29])
    app = Misbehaving(desk.app(), fail_rate=0.3, chance=lambda: next(draws))

    statuses = [(await post(app, outgoing())).status_code for _ in range(3)]

    assert statuses == [503, 201, 503]


async def test_a_status_alone_is_for_every_request(desk: Desk) -> None:
    """With neither a number nor a rate, every request is answered as told."""
    app = Misbehaving(desk.app(), status=410)

    assert [(await post(app, outgoing())).status_code for _ in range(3)] == [410] * 3
    assert desk.seen == []


async def test_an_answer_can_be_late(desk: Desk) -> None:
    """A delay holds back the answer, not the effect."""
    app = Misbehaving(desk.app(), delay_seconds=30)
    waiting = asyncio.create_task(post(app, outgoing()))

    await asyncio.to_thread(desk.entered.wait, 10)
    await asyncio.to_thread(wait_for, lambda: desk.seen)

    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_a_server_that_cannot_cut_says_so(desk: Desk) -> None:
    """Dropping needs a server that can cut its connection; another one fails loudly."""
    with pytest.raises(RuntimeError, match="abortable_http"):
        await post(Misbehaving(desk.app(), drop=True), outgoing())
