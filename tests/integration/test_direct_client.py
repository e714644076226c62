"""One signal posted directly: what arrives, what comes back, and which error tells what."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from aiohttp import web

from signalpost import Profile, Signal, verify
from signalpost.direct import (
    NetworkError,
    ReceiverError,
    RetryExhausted,
    SendError,
    SendTimeout,
    SignalClient,
    SignalExpired,
    SignalRejected,
    retry_async,
)
from signalpost.errors import ConfigurationError, EndpointError, SecretError, SignalError
from signalpost.receiver import Receiver as Kit
from signalpost.receiver import SqliteBook
from tests.producing import PRICE, REASON, SECRET, make_signal
from tests.receivers import Answering, Seen, receiver, status

ENVIRON = {"OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8", "PRODUCER_ID": "momentum-1"}


def client_of(url: str, **more: Any) -> SignalClient:
    return SignalClient(url, SECRET, **{"environ": ENVIRON, **more})


def answers(*each: Answering) -> Answering:
    """These in turn, the last one for ever."""
    left = list(each)

    async def answer(seen: Seen) -> web.Response:
        return await (left.pop(0) if len(left) > 1 else left[0])(seen)

    return answer


def says(code: int, **members: object) -> Answering:
    async def answer(_: Seen) -> web.Response:
        return web.json_response(members, status=code)

    return answer


async def silent(_: Seen) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def test_a_signal_arrives_signed_and_the_answer_is_parsed() -> None:
    """The receiver can verify the request in each profile, and its answer comes back as a model."""
    signal = make_signal()
    accepted = says(
        201,
        signal_id=str(signal.id),
        status="received",
        server_timestamp="2026-03-02T21:00:00Z",
        message="",
        errors=[],
    )
    async with receiver(accepted) as there, client_of(there.url) as client:
        answer = await client.send(signal)
    assert (answer.status_code, answer.status, answer.signal_id) == (
        201,
        "received",
        str(signal.id),
    )
    [seen] = there.seen
    assert seen.body == signal.body()
    for profile in Profile:
        verified = verify(
            method="POST",
            headers=seen.headers,
            body=seen.body,
            url=there.url,
            secrets=[SECRET],
            profile=profile,
        )
        assert verified.producer_id in (None, "momentum-1")
        assert verified.delivery_id in (None, seen.delivery_id)


async def test_the_kit_takes_it_once(tmp_path: Path) -> None:
    """Our own receiver acts on the signal once, and calls it a duplicate when it comes again."""
    url, acted = "https://desk.example/signals", []
    kit = Kit(
        secrets=[SECRET],
        public_url=url,
        book=SqliteBook(str(tmp_path / "book.sqlite")),
        handler=lambda _, received: acted.append(received.delivery_id),
    )
    signal = make_signal()
    async with client_of(url, transport=httpx.ASGITransport(kit)) as client:
        first, second = await client.send(signal), await client.send(signal)
    assert (first.status_code, second.status_code) == (201, 200)
    assert (first.status, second.status) == ("received", "received")
    assert len(acted) == 1


async def test_one_key_for_each_client_url_and_signal() -> None:
    """The key is one for one client, URL and signal, however often and by whichever process."""
    signal, unnamed = make_signal(), {**json.loads(make_signal().body()), "id": None}
    async with receiver() as there:
        elsewhere = there.url + "&more=1"
        for url, more in (
            (there.url, {}),
            (there.url, {}),
            (elsewhere, {}),
            (there.url, {"producer_id": "momentum-2"}),
        ):
            async with client_of(url, **more) as client:
                await client.send(signal)
                await client.send(signal)
        async with client_of(there.url) as client:
            await client.send(unnamed)
            await client.send(dict(unnamed))
            await client.send(unnamed, key="trade-7")
    keys = [seen.delivery_id for seen in there.seen]
    assert keys[0] == keys[1] == keys[2] == keys[3]
    assert keys[8] == keys[9]
    assert len(set(keys)) == 5
    assert all(UUID(key).version == 8 for key in keys)


@pytest.mark.parametrize("code", [422, 400, 410, 201])
async def test_a_refusal_is_told_with_its_details(code: int) -> None:
    """What is refused for good, be it in a 201, raises with the receiver's own words beside it."""
    words = [f"entry_price: {PRICE} is too far away", {"field": "side"}]
    refuses = says(code, status="rejected", message="no", errors=words)
    async with receiver(refuses) as there, client_of(there.url) as client:
        with pytest.raises(SignalRejected) as caught:
            await client.send(make_signal())
    error = caught.value
    assert (error.status_code, error.maybe_received) == (code, False)
    assert error.details == (words[0], '{"field": "side"}')
    assert error.answer.message == "no"
    assert PRICE not in f"{error} {error!r} {error.answer!r}"


@pytest.mark.parametrize("code", [301, 401, 404, 408, 429, 500, 503])
async def test_a_receiver_that_cannot_is_told_as_such(code: int) -> None:
    """Statuses that may pass raise ReceiverError with the wait asked for; no redirect is taken."""

    async def cannot(_: Seen) -> web.Response:
        headers = {"Retry-After": "7", "Location": "/elsewhere"}
        return web.Response(status=code, headers=headers)

    async with receiver(cannot) as there, client_of(there.url) as client:
        with pytest.raises(ReceiverError, match=f"HTTP {code}") as caught:
            await client.send(make_signal())
        assert len(there.seen) == 1
    assert caught.value.retry_after_seconds == 7
    assert caught.value.maybe_received == (code in (408, 500, 503))


async def test_an_answer_that_does_not_come_is_a_timeout() -> None:
    """Past the total deadline the caller is told that the signal may have arrived."""
    async with receiver(silent) as there, client_of(there.url, timeout=0.3) as client:
        with pytest.raises(SendTimeout, match="it may have arrived") as caught:
            await client.send(make_signal())
    assert caught.value.maybe_received


async def test_a_409_is_judged_by_what_went_before() -> None:
    """A 409 out of the blue is a refusal; after an attempt that may have arrived it is proof."""
    conflict = says(409, status="rejected")
    async with (
        receiver(answers(conflict, silent, conflict)) as there,
        client_of(there.url, timeout=0.3) as client,
    ):
        with pytest.raises(SignalRejected) as caught:
            await client.send(make_signal())
        assert not caught.value.maybe_received
        signal = make_signal()
        with pytest.raises(SendTimeout):
            await client.send(signal)
        assert (await client.send(signal)).status_code == 409


async def test_a_cancelled_call_is_remembered() -> None:
    """A call that was cancelled after it had written may have arrived, and a 409 then proves it."""
    signal = make_signal()
    async with (
        receiver(answers(silent, says(409))) as there,
        client_of(there.url) as client,
    ):
        call = asyncio.create_task(client.send(signal))
        await there.wait_for(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await client.send(signal)).status_code == 409


async def test_nobody_there_is_a_network_error() -> None:
    """A closed port and a name that nobody has are told as not arrived."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/", "https://no-such-host.invalid/"):
        async with client_of(url) as client:
            with pytest.raises(NetworkError, match="it has not arrived") as caught:
                await client.send(make_signal())
        assert not caught.value.maybe_received


@pytest.mark.parametrize(
    ("said", "kind"), [(b"", NetworkError), (b"SSH-2.0-OpenSSH\r\n", ReceiverError)]
)
async def test_a_connection_that_ends_without_an_answer_is_unknown(
    said: bytes, kind: type[SendError]
) -> None:
    """If the request was written and nothing came that can be read, it may have arrived."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, client_of(url) as client:
        with pytest.raises(kind, match="it may have arrived") as caught:
            await client.send(make_signal())
    assert caught.value.maybe_received


async def test_retries_keep_the_key_and_count_the_attempts() -> None:
    """Through retries the key stays, the attempt's number grows, and the end is the answer."""

    async def at_once(_: float) -> None:
        return

    troubled = answers(status(500), status(503), says(201, status="received"))
    async with receiver(troubled) as there, client_of(there.url) as client:
        answer = await retry_async(client.send, make_signal(), sleep=at_once)
    assert answer.status == "received"
    assert len({seen.delivery_id for seen in there.seen}) == 1
    assert [seen.headers["X-Signalpost-Attempt"] for seen in there.seen] == ["1", "2", "3"]
    async with receiver(status(500)) as there, client_of(there.url) as client:
        with pytest.raises(RetryExhausted) as caught:
            await retry_async(client.send, make_signal(), retries=2, sleep=at_once)
    assert (caught.value.attempts, len(there.seen)) == (3, 3)
    assert caught.value.maybe_received


async def test_a_signal_past_its_life_is_not_sent() -> None:
    """By its own expiry, or by the default after the first attempt, nothing more is written."""
    moment = datetime(2026, 3, 2, 21, 0, tzinfo=UTC)
    clock = [moment]
    late, patient = make_signal(expires_at=moment), make_signal()
    async with (
        receiver(status(500)) as there,
        client_of(there.url, now=lambda: clock[0]) as client,
    ):
        with pytest.raises(SignalExpired):
            await client.send(late)
        with pytest.raises(ReceiverError):
            await client.send(patient)
        clock[0] += timedelta(seconds=601)
        with pytest.raises(SignalExpired) as caught:
            await client.send(patient)
    assert caught.value.maybe_received
    [seen] = there.seen
    assert seen.headers["X-Signalpost-Expires-At"] == "2026-03-02T21:10:00.000000Z"


async def test_addresses_are_guarded() -> None:
    """Loopback and plain http are refused unless they are allowed, before anything is written."""
    async with receiver() as there:
        for url in (there.url, "https://169.254.169.254/"):
            async with client_of(url, environ={"PRODUCER_ID": "momentum-1"}) as client:
                with pytest.raises(EndpointError, match="OUTBOUND_ALLOW_NETWORKS"):
                    await client.send(make_signal())
    assert there.seen == []


async def test_a_bad_signal_is_told_before_anything_is_sent() -> None:
    """A broken rule, or a body over the limit, is a SignalError and reaches nobody."""
    async with receiver() as there, client_of(there.url) as client:
        with pytest.raises(SignalError, match="side"):
            await client.send({"instrument": "AAPL", "side": "hold"})
        with pytest.raises(SignalError, match="65536"):
            await client.send(make_signal(payload={"pad": "x" * 65536}))
    assert there.seen == []


Making = Callable[[], SignalClient]


@pytest.mark.parametrize(
    ("make", "kind", "told"),
    [
        (lambda: SignalClient(environ=ENVIRON), ConfigurationError, "OUTBOUND_SERVER_URL"),
        (
            lambda: SignalClient("https://desk.example/", environ=ENVIRON),
            ConfigurationError,
            "HMAC_PRODUCER_SECRET",
        ),
        (
            lambda: SignalClient("https://desk.example/", SECRET, environ={}),
            ConfigurationError,
            "PRODUCER_ID",
        ),
        (
            lambda: SignalClient("https://desk.example/", "short", environ=ENVIRON),
            (ConfigurationError, SecretError),
            "16 bytes",
        ),
        (lambda: client_of("ftp://desk.example/"), ConfigurationError, "URL"),
        (lambda: client_of("https://desk.example/", timeout=0), ConfigurationError, "timeout"),
        (
            lambda: client_of(
                "https://desk.example/", environ={**ENVIRON, "HMAC_PRODUCER_ENABLED": "false"}
            ),
            ConfigurationError,
            "HMAC_PRODUCER_ENABLED is false",
        ),
    ],
)
def test_a_wrong_set_up_is_told_when_the_client_is_made(
    make: Making, kind: type[Exception], told: str
) -> None:
    """What cannot work is one line that names what to give, and never a secret."""
    with pytest.raises(kind, match=told) as caught:
        make()
    assert SECRET not in str(caught.value)


async def test_a_client_that_is_not_open_says_so() -> None:
    """Used without `async with`, or after it, the client tells what is missing."""
    client = client_of("https://desk.example/")
    sends: list[Callable[[Signal], Awaitable[object]]] = [client.send]
    for send in sends:
        with pytest.raises(SendError, match="async with"):
            await send(make_signal())


async def test_errors_carry_nothing_private() -> None:
    """No error, nor what it chains to, shows the secret, a price or the reason."""
    shown = ""
    for answer in (status(500), status(422), silent):
        async with receiver(answer) as there, client_of(there.url, timeout=0.3) as client:
            with pytest.raises(SendError) as caught:
                await client.send(make_signal())
        error: BaseException | None = caught.value
        while error is not None:
            shown += f"{error} {error!r} {vars(error)}"
            error = error.__cause__ or error.__context__
    assert not [word for word in (SECRET, PRICE, REASON) if word in shown]
