from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from signalpost.core.outcomes import Answer, Failure, Phase
from signalpost.sender import EXCERPT_BYTES, USER_AGENT, Parcel, Progress, Sender

URL = "https://receiver.example/hook"
PRICE = "1.10250"


def no_objection() -> Failure | None:
    return None


def parcel(url: str = URL, *, timeout_seconds: float = 5, body: bytes = b"{}") -> Parcel:
    headers = {"Content-Type": "application/json", "X-Idempotency-Key": "d-1"}
    return Parcel(url, headers, body, timeout_seconds, no_objection)


class Drips(httpx.AsyncByteStream):
    """A body that comes in pieces, and may break off or stall."""

    def __init__(self, *pieces: bytes, then: Exception | None = None, stall: bool = False) -> None:
        self.pieces = pieces
        self.then = then
        self.stall = stall
        self.taken = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            yield piece
        if self.stall:
            await asyncio.Event().wait()
        if self.then is not None:
            raise self.then

    async def aclose(self) -> None:
        self.closed = True


def answering(response: httpx.Response) -> Sender:
    return Sender(httpx.MockTransport(lambda _: response))


def raising(error: BaseException) -> Sender:
    def handler(_: httpx.Request) -> httpx.Response:
        raise error

    return Sender(httpx.MockTransport(handler))


async def test_the_request_is_the_parcel() -> None:
    """Method, target, headers and body go out as given, with what HTTP itself needs."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(201)

    sender = Sender(httpx.MockTransport(handler))
    await sender.send(parcel("https://receiver.example:8443/a/../b?c=%7e", body=b'{"a":1}'))
    (request,) = seen
    assert request.method == "POST"
    assert request.extensions["target"] == b"/a/../b?c=%7e"
    assert (request.url.scheme, request.url.host, request.url.port) == (
        "https",
        "receiver.example",
        8443,
    )
    assert request.content == b'{"a":1}'
    assert dict(request.headers) == {
        "host": "receiver.example:8443",
        "user-agent": USER_AGENT,
        "accept-encoding": "identity",
        "content-type": "application/json",
        "x-idempotency-key": "d-1",
        "content-length": "7",
    }


async def test_credentials_in_the_url_are_sent_as_a_header() -> None:
    """A URL with user and password authenticates by Basic, and loses them in the request's URL."""
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    await Sender(httpx.MockTransport(handler)).send(parcel("https://ada:lovelace@h.example/"))
    assert seen[0].headers["authorization"] == "Basic YWRhOmxvdmVsYWNl"
    assert "lovelace" not in str(seen[0].url)


async def test_an_answer_is_told_whole() -> None:
    """Status, Retry-After, Date, excerpt, phase and duration come back."""
    ticks: Iterator[float] = iter([10.0, 10.25])
    response = httpx.Response(
        503,
        headers={"Retry-After": "120", "Date": "Mon, 01 Jan 2024 00:00:00 GMT"},
        content=b"busy",
    )
    sender = Sender(httpx.MockTransport(lambda _: response), monotonic=lambda: next(ticks))
    assert await sender.send(parcel()) == Answer(
        phase=Phase.BODY,
        duration_seconds=0.25,
        status_code=503,
        retry_after="120",
        date="Mon, 01 Jan 2024 00:00:00 GMT",
        excerpt=b"busy",
    )


@pytest.mark.parametrize("status", [200, 201, 204, 301, 307, 400, 409, 410, 429, 500, 503])
async def test_a_status_is_an_answer_whatever_it_says(status: int) -> None:
    """No status is an error to the sender, and no redirect is followed."""
    response = httpx.Response(status, headers={"Location": "https://elsewhere.example/"})
    answer = await answering(response).send(parcel())
    assert (answer.status_code, answer.failure, answer.phase) == (status, None, Phase.BODY)


async def test_an_endless_body_is_cut() -> None:
    """At most 4096 bytes are kept, reading stops there, and the response is closed."""
    body = Drips(*[b"x" * 1000] * 100)
    answer = await answering(httpx.Response(200, stream=body)).send(parcel())
    assert answer.excerpt == b"x" * EXCERPT_BYTES
    assert body.taken == 5
    assert body.closed
    assert answer.failure is None


async def test_a_compressed_body_is_kept_compressed() -> None:
    """The excerpt is the bytes of the wire: no Content-Encoding is undone."""
    packed = Drips(b"\x1f\x8b not really gzip")
    response = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=packed)
    assert (await answering(response).send(parcel())).excerpt == b"\x1f\x8b not really gzip"


async def test_the_status_survives_a_body_that_breaks_off() -> None:
    """A status once read is kept, with what had come of the body, beside the failure."""
    body = Drips(b"half", then=httpx.ReadError("gone"))
    answer = await answering(httpx.Response(200, stream=body)).send(parcel())
    assert (answer.status_code, answer.failure) == (200, Failure.RESET)
    assert (answer.phase, answer.excerpt) == (Phase.BODY, b"half")
    assert body.closed


async def test_a_body_that_stalls_is_cut_at_the_deadline() -> None:
    """The deadline covers the body too, and what was read before it stays."""
    body = Drips(b"half", stall=True)
    answer = await answering(httpx.Response(200, stream=body)).send(parcel(timeout_seconds=0.05))
    assert (answer.status_code, answer.failure) == (200, Failure.TIMEOUT)
    assert answer.excerpt == b"half"
    assert 0.05 <= answer.duration_seconds < 0.5
    assert body.closed


async def test_a_receiver_that_never_answers_is_cut_at_the_deadline() -> None:
    """Without an answer the attempt ends on time, and may have been received."""

    async def handler(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    answer = await Sender(httpx.MockTransport(handler)).send(parcel(timeout_seconds=0.05))
    assert (answer.status_code, answer.failure) == (None, Failure.TIMEOUT)
    assert 0.05 <= answer.duration_seconds < 0.5
    assert answer.phase.wrote


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_without_time_nothing_is_sent(seconds: float) -> None:
    """A parcel whose time is over never reaches the transport."""
    calls = 0

    def handler(_: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        return httpx.Response(200)

    answer = await Sender(httpx.MockTransport(handler)).send(parcel(timeout_seconds=seconds))
    assert (answer.failure, answer.phase, calls) == (Failure.EXPIRED, Phase.NONE, 0)


@pytest.mark.parametrize(
    ("error", "failure", "wrote"),
    [
        (httpx.ConnectError("x"), Failure.CONNECT, False),
        (httpx.ConnectTimeout("x"), Failure.TIMEOUT, False),
        (httpx.PoolTimeout("x"), Failure.TIMEOUT, False),
        (httpx.UnsupportedProtocol("x"), Failure.URL, False),
        (httpx.InvalidURL("x"), Failure.URL, False),
        (httpx.LocalProtocolError("x"), Failure.INTERNAL, False),
        (httpx.ReadTimeout("x"), Failure.TIMEOUT, True),
        (httpx.ReadError("x"), Failure.RESET, True),
        (httpx.WriteError("x"), Failure.RESET, True),
        (httpx.RemoteProtocolError("x"), Failure.PROTOCOL, True),
        (ConnectionResetError(), Failure.RESET, True),
        (RuntimeError("x"), Failure.INTERNAL, True),
    ],
)
async def test_an_exception_becomes_an_answer(
    error: Exception, failure: Failure, *, wrote: bool
) -> None:
    """Whatever a transport raises is told; only what proves that nothing left counts as unsent."""
    answer = await raising(error).send(parcel())
    assert (answer.failure, answer.status_code, answer.phase.wrote) == (failure, None, wrote)


async def test_a_url_that_cannot_be_used_is_told() -> None:
    """A wrong URL is an answer like any other, without the URL in it."""
    answer = await answering(httpx.Response(200)).send(parcel("https://ada:lovelace@a b/"))
    assert (answer.failure, answer.phase) == (Failure.URL, Phase.NONE)
    assert "lovelace" not in answer.detail


async def test_an_unforeseen_error_is_logged_once_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A defect names its class, its place and the delivery, never what the message holds."""
    with caplog.at_level(logging.DEBUG):
        answer = await raising(ZeroDivisionError(PRICE)).send(parcel())
    assert (answer.failure, answer.detail) == (Failure.INTERNAL, "ZeroDivisionError")
    (record,) = [record for record in caplog.records if record.name.startswith("signalpost")]
    assert "delivery=d-1 error=ZeroDivisionError" in record.getMessage()
    assert "test_sender.py:" in record.getMessage()
    assert PRICE not in caplog.text


async def test_a_cancelled_attempt_is_cancelled_and_leaves_its_progress() -> None:
    """Cancellation is the one thing that gets through, and the progress stays readable."""
    begun = asyncio.Event()

    async def handler(request: httpx.Request) -> httpx.Response:
        request.extensions["signalpost"].advance(Phase.TLS)
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    progress = Progress()
    sending = asyncio.create_task(
        Sender(httpx.MockTransport(handler)).send(parcel(), progress=progress)
    )
    await begun.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert (progress.phase, progress.written) == (Phase.TLS, False)


async def test_the_transport_finds_the_last_check() -> None:
    """The request carries the parcel's last check to the transport."""
    found: list[object] = []

    def handler(request: httpx.Request) -> httpx.Response:
        found.append(request.extensions["signalpost"].last_check)
        return httpx.Response(200)

    await Sender(httpx.MockTransport(handler)).send(parcel())
    assert found == [no_objection]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"120", "120"),
        (b" 120 ", "120"),
        (b"-1", "-1"),
        (b"9" * 9999, "9" * 128),
        (b"caf\xc3\xa9", None),
        (b"1\x002", None),
    ],
)
async def test_a_header_is_told_bounded_and_readable(value: bytes, told: str | None) -> None:
    """Retry-After comes back as it is, cut at 128 characters, or not at all if it is no text."""
    response = httpx.Response(503, headers=[(b"Retry-After", value)])
    assert (await answering(response).send(parcel())).retry_after == told


def test_a_phase_passed_stays_passed() -> None:
    """Progress only ever goes forward."""
    progress = Progress()
    progress.advance(Phase.SENT)
    progress.advance(Phase.CONNECT)
    assert progress.phase is Phase.SENT


def test_written_is_asked_until_it_is_true_and_then_kept() -> None:
    """Whether the request has left is looked up when asked, and never taken back."""
    told = iter([False, True])
    progress = Progress()
    seen = [progress.written]
    progress.watch(lambda: next(told))
    seen += [progress.written for _ in range(3)]
    progress.settle()
    assert [*seen, progress.written] == [False, False, True, True, True]


def test_unwritten_stays_unwritten_once_settled() -> None:
    """When the connection is dropped, the last word is kept: what was held back never leaves."""
    progress = Progress()
    progress.watch(lambda: False)
    progress.settle()
    assert not progress.written


def test_a_parcel_shows_no_body_and_no_headers() -> None:
    """The representation of a parcel holds nothing private."""
    shown = repr(parcel(body=PRICE.encode()))
    assert PRICE not in shown
    assert "d-1" not in shown
