from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route

from signalpost.core.signals import Signal
from signalpost.core.signing import Profile
from signalpost.core.targets import wire_target
from signalpost.errors import BookError, ConfigurationError, SecretError, SignatureError
from signalpost.receiver import (
    Misbehaving,
    Receiver,
    Seen,
    SqliteBook,
    Verdict,
)
from signalpost.verifying import verify
from tests.desks import NOW, SECRET, URL, SqliteDesk, body_of, outgoing, post, signed
from tests.processes import wait_for


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[SqliteDesk]:
    desk = SqliteDesk(tmp_path)
    yield desk
    desk.close()


async def unverified() -> AsyncIterator[tuple[str, dict[str, str]]]:
    facts = outgoing()
    yield "no signature", {"content-type": "application/json"}
    yield "another secret", signed(facts, "another secret of the same kind")
    yield "too old", signed(replace(facts, timestamp=NOW - timedelta(seconds=301)))
    yield "another host", signed(replace(facts, authority="evil.example"))
    yield "another path", signed(replace(facts, raw_path="/hooks/other"))
    yield "another key", {**signed(facts), "X-Idempotency-Key": str(uuid4())}
    yield "another expiry", {**signed(facts), "X-Signalpost-Expires-At": "never"}


async def test_what_is_not_verifiably_from_the_producer_is_401(desk: SqliteDesk) -> None:
    """Whatever the signature does not prove is answered 401 and consumes nothing."""
    async for what, headers in unverified():
        answer = await post(desk.app(), outgoing(), headers)
        assert answer.status_code == 401, what
        assert answer.json()["status"] == "rejected", what
    assert desk.orders() == 0


async def test_ids_that_differ_are_refused_in_every_profile(desk: SqliteDesk) -> None:
    """A webhook-id that differs from X-Idempotency-Key is refused, though one alone verifies."""
    facts = outgoing()
    for profile in Profile:
        headers = {**signed(facts), "X-Idempotency-Key": str(uuid4())}
        assert (await post(desk.app(profile=profile), facts, headers)).status_code == 401
    assert (await post(desk.app(), facts)).status_code == 201


async def test_a_profile_is_never_exchanged_for_another(desk: SqliteDesk) -> None:
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
async def test_a_body_over_the_limit_is_413_without_being_read(
    desk: SqliteDesk, sized: bool
) -> None:
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


async def test_a_body_that_does_not_come_is_408(desk: SqliteDesk) -> None:
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
async def test_bad_fields_are_422_by_name(desk: SqliteDesk, body: bytes, problem: str) -> None:
    """A signal that breaks a rule is 422, names each rule, and consumes no key."""
    facts = outgoing(body=body)

    answer = await post(desk.app(), facts)

    assert answer.status_code == 422
    assert answer.json()["errors"][0].startswith(problem)
    assert (await post(desk.app(), replace(facts, body=body_of()))).status_code == 201


async def test_the_signed_expiry_rules_over_the_body(desk: SqliteDesk) -> None:
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
async def test_an_unsigned_expiry_counts_for_nothing(desk: SqliteDesk, profile: Profile) -> None:
    """Where the profile does not cover the expiry header, the body's own expiry holds."""
    over = body_of(expires_at=NOW)

    answer = await post(desk.app(profile=profile), outgoing(body=over))

    assert answer.status_code == 422


async def test_a_key_that_is_no_uuid_is_422(desk: SqliteDesk) -> None:
    """A delivery's id that is no UUID is refused by name."""
    answer = await post(desk.app(), outgoing(delivery_id="not-a-uuid"))

    assert answer.status_code == 422
    assert answer.json()["errors"] == ["X-Idempotency-Key: must be a UUID"]


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
    desk: SqliteDesk, public_url: str, path: str, status: int
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
    desk: SqliteDesk, target: bytes, authority: str
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


async def test_the_public_url_is_read_as_the_sender_reads_it(desk: SqliteDesk) -> None:
    """The URL that the operator was given works as it is, however it spells host and path."""
    url = "https://name:word@B\u00fccher.example:443/h\u00f6ok?desk=1#part"
    authority, raw_path, query = wire_target(url)
    facts = outgoing(authority=authority, raw_path=raw_path, query=query)

    answer = await post(desk.app(public_url=url), facts, path="/h%C3%B6ok?desk=1")

    assert answer.status_code == 201


@pytest.mark.parametrize(
    ("routes", "path", "status"),
    [
        (lambda app: [Route("/hooks/signals", app, methods=["POST"])], "/hooks/signals", 201),
        (lambda app: [Mount("/hooks", app)], "/hooks/signals", 201),
        (lambda app: [Mount("/api", routes=[Mount("/hooks", app)])], "/api/hooks/signals", 201),
        # What docs/receiving.md warns of: a mount does not serve its own path.
        (lambda app: [Mount("/hooks/signals", app)], "/hooks/signals", 307),
    ],
    ids=["route", "mount", "mount in a mount", "mount at its own path"],
)
async def test_it_is_part_of_a_bigger_app(
    desk: SqliteDesk, routes: Callable[[Any], list[BaseRoute]], path: str, status: int
) -> None:
    """Routed or mounted in Starlette, at any depth, it verifies the path that was posted to."""
    site = Starlette(routes=routes(desk.app(public_url=f"https://desk.example{path}")))

    answer = await post(site, outgoing(raw_path=path), path=path)

    assert answer.status_code == status
    assert desk.orders() == (status == 201)


async def test_an_observer_that_fails_changes_no_answer(
    desk: SqliteDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """What was decided is answered, whatever becomes of whoever is told of it."""

    def fails(seen: Seen) -> None:
        raise ValueError("the disk that holds 101.10 is full")

    answer = await post(desk.app(observer=fails), outgoing())

    assert answer.status_code == 201
    assert "the observer failed: ValueError" in caplog.text
    assert "101.10" not in caplog.text


async def test_the_query_is_taken_as_received(desk: SqliteDesk) -> None:
    """A query is part of what is verified, so another one is 401."""
    facts = outgoing(query="desk=1")

    wrong = await post(desk.app(), facts, path="/hooks/signals?desk=2")
    right = await post(desk.app(), facts, path="/hooks/signals?desk=1")

    assert (wrong.status_code, right.status_code) == (401, 201)


async def test_only_posts_are_served(desk: SqliteDesk) -> None:
    """Another method is 405 and says which one is allowed."""
    transport = httpx.ASGITransport(app=desk.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.1") as client:
        answer = await client.get("/hooks/signals")

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


async def test_it_answers_the_servers_own_questions(desk: SqliteDesk) -> None:
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


async def test_a_sender_that_hangs_up_is_forgotten(desk: SqliteDesk) -> None:
    """A connection lost in mid-request has no effect, no verdict and no answer."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise AssertionError("nobody is left to answer")

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await desk.app()(scope, receive, send)

    assert desk.seen == []


def test_arguments_that_cannot_work_are_refused(tmp_path: Path) -> None:
    """A receiver without a usable secret or URL is never made."""
    book = SqliteBook(tmp_path / "book.sqlite")
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
            SqliteBook(tmp_path / "book.sqlite", keep_days=days)
    book.close()
    with pytest.raises(BookError):
        SqliteBook(tmp_path / "nowhere" / "book.sqlite")


def test_any_framework_can_verify() -> None:
    """The public verify takes the clock's time by itself and raises one kind of error only."""
    facts = outgoing(timestamp=datetime.now(UTC))
    verified = verify(
        method="POST", headers=signed(facts), body=facts.body, url=URL, secrets=[SECRET]
    )

    assert verified.delivery_id == facts.delivery_id
    with pytest.raises(SignatureError):
        verify(method="POST", headers={}, body=b"", url=URL, secrets=[SECRET])


async def test_the_next_requests_fail_as_told(desk: SqliteDesk) -> None:
    """Told to fail twice with 500, it does so unseen by the kit, and then behaves."""
    told: list[str] = []
    facts = outgoing()
    app = Misbehaving(desk.app(), fail=2, status=500, observer=told.append)

    statuses = [(await post(app, facts)).status_code for _ in range(3)]

    assert statuses == [500, 500, 201]
    assert told == [f"answered 500 as told delivery={facts.delivery_id}"] * 2
    assert app.failed == 2


async def test_a_share_of_requests_fails_by_chance(desk: SqliteDesk) -> None:
    """A failure rate is held against the chance that is drawn for each request."""
    draws = iter([0.1, 0.9, 0.29])
    app = Misbehaving(desk.app(), fail_rate=0.3, chance=lambda: next(draws))

    statuses = [(await post(app, outgoing())).status_code for _ in range(3)]

    assert statuses == [503, 201, 503]


async def test_a_status_alone_is_for_every_request(desk: SqliteDesk) -> None:
    """With neither a number nor a rate, every request is answered as told."""
    app = Misbehaving(desk.app(), status=410)

    assert [(await post(app, outgoing())).status_code for _ in range(3)] == [410] * 3
    assert desk.seen == []


async def test_an_answer_can_be_late(desk: SqliteDesk) -> None:
    """A delay holds back the answer, not the effect."""
    app = Misbehaving(desk.app(), delay_seconds=30)
    waiting = asyncio.create_task(post(app, outgoing()))

    await asyncio.to_thread(desk.entered.wait, 10)
    await asyncio.to_thread(wait_for, lambda: desk.seen)

    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait({waiting})


async def test_a_server_that_cannot_cut_says_so(desk: SqliteDesk) -> None:
    """Dropping needs a server that can cut its connection; another one fails loudly."""
    with pytest.raises(RuntimeError, match="abortable_http"):
        await post(Misbehaving(desk.app(), drop=True), outgoing())
