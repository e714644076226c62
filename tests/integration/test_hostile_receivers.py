from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import psutil
import pytest
import trustme
from sqlalchemy import Engine

from signalpost.core.outcomes import Answer, Failure, Phase
from signalpost.sender import EXCERPT_BYTES, Parcel, Progress, Sender
from signalpost.transport import AiohttpTransport
from tests import rows
from tests.engines import SEALED, engine_rig
from tests.raw_receiver import OK, Conversation, RawReceiver, Script, answers_ok, wait_for
from tests.waiting import counts, until

LOOPBACK = [ip_network("127.0.0.0/8")]
DEADLINE = 0.3
# Where an answer is to come, a machine under load must not be taken for a slow receiver; where none
# comes, the cut may be late by what such a machine takes to wake up, not by more.
PATIENCE = 10.0
SLACK = 2.0
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # quicker than loading authorities
BOMB = gzip.compress(bytes(10 * 1024 * 1024))
HEAD = b"HTTP/1.1 200 OK\r\n"


def no_objection() -> Failure | None:
    return None


def parcel(url: str, *, body: bytes = b"{}", seconds: float = PATIENCE) -> Parcel:
    return Parcel(url, {"Content-Type": "application/json"}, body, seconds, no_objection)


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=TRUSTS_NOBODY))
    yield sender
    await sender.aclose()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def says(*pieces: bytes, then: str = "wait") -> Script:
    """Reads a request, says the pieces, and then waits, closes or resets."""

    async def script(talk: Conversation) -> None:
        await talk.request()
        for piece in pieces:
            await talk.say(piece)
        if then == "wait":
            await talk.gone()
        elif then == "reset":
            talk.reset()
        elif then == "half close":
            talk.hang_up()
            await talk.gone()

    return script


def slowly(*pieces: bytes) -> Script:
    """Reads a request, and says each piece once the one before has been read."""

    async def script(talk: Conversation) -> None:
        await talk.request()
        for piece in pieces:
            await talk.say(piece)
            await asyncio.sleep(0.02)
        await talk.gone()

    return script


def drips(start: bytes, drop: bytes, seconds: float = 0.01) -> Script:
    """Reads a request, says the start, and then a drop at a time for ever."""

    async def script(talk: Conversation) -> None:
        await talk.request()
        await talk.say(start)
        while True:
            await talk.say(drop)
            await asyncio.sleep(seconds)

    return script


def floods(start: bytes, flood: bytes) -> Script:
    """Reads a request, says the start, and then the flood as fast as it is taken."""
    return drips(start, flood, 0)


@dataclass(frozen=True)
class Hostile:
    """One way to misbehave, and what the sender must make of it."""

    script: Script
    status: int | None = None
    failure: Failure | None = None
    phase: Phase = Phase.BODY
    excerpt: bytes | None = None


def no_answer(script: Script, failure: Failure) -> Hostile:
    return Hostile(script, None, failure, Phase.SENT, b"")


KINDS = {
    # Slow
    "silence": no_answer(says(), Failure.TIMEOUT),
    "dripping reason": no_answer(drips(b"HTTP/1.1 200 ", b"x"), Failure.TIMEOUT),
    "dripping header": no_answer(drips(HEAD + b"A: ", b"x"), Failure.TIMEOUT),
    "dripping empty lines": no_answer(drips(b"", b"\r\n"), Failure.TIMEOUT),
    "dripping headers": no_answer(drips(HEAD, b"A: b\r\n"), Failure.TIMEOUT),
    "dripping body": Hostile(
        drips(HEAD + b"Content-Length: 4000\r\n\r\n", b"x"), 200, Failure.TIMEOUT
    ),
    "dripping chunks": Hostile(
        drips(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), 200, Failure.TIMEOUT
    ),
    "dripping 100-continue": no_answer(
        drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1), Failure.TIMEOUT
    ),
    "stalled body": Hostile(
        says(HEAD + b"Content-Length: 9\r\n\r\nhalf"), 200, Failure.TIMEOUT, excerpt=b"half"
    ),
    # Endless
    "endless body": Hostile(floods(HEAD + b"\r\n", b"x" * 65536), 200, excerpt=b"x" * 4096),
    "endless chunks": Hostile(
        floods(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 9999),
        200,
        excerpt=b"x" * 4096,
    ),
    "endless chunk extension": Hostile(
        floods(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536), 200, Failure.PROTOCOL
    ),
    "endless trailers": Hostile(
        floods(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 999),
        200,
        Failure.PROTOCOL,
    ),
    "endless empty lines": no_answer(floods(b"", b"\r\n" * 32768), Failure.PROTOCOL),
    "endless headers": no_answer(floods(HEAD, b"A: b\r\n" * 999), Failure.PROTOCOL),
    "endless header line": no_answer(floods(HEAD + b"A: ", b"x" * 65536), Failure.PROTOCOL),
    "endless header name": no_answer(floods(HEAD, b"x" * 65536), Failure.PROTOCOL),
    "endless reason": no_answer(floods(b"HTTP/1.1 200 ", b"x" * 65536), Failure.PROTOCOL),
    "trickle of 100-continue": no_answer(
        drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001), Failure.PROTOCOL
    ),
    "storm of 100-continue": no_answer(
        floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 999), Failure.PROTOCOL
    ),
    "storm of 103 with headers": no_answer(
        floods(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 999), Failure.PROTOCOL
    ),
    "1 GiB of Content-Length": Hostile(
        floods(HEAD + b"Content-Length: 1073741824\r\n\r\n", b"x" * 65536),
        200,
        excerpt=b"x" * 4096,
    ),
    "1 GiB promised, nothing sent": Hostile(
        says(HEAD + b"Content-Length: 1073741824\r\n\r\n"), 200, Failure.TIMEOUT, excerpt=b""
    ),
    "1 GiB chunk": Hostile(
        floods(HEAD + b"Transfer-Encoding: chunked\r\n\r\n40000000\r\n", b"x" * 65536),
        200,
        excerpt=b"x" * 4096,
    ),
    "compressed bomb": Hostile(
        says(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB), BOMB),
        200,
        excerpt=BOMB[:EXCERPT_BYTES],
    ),
    # Wrong
    "too short a body": Hostile(
        says(HEAD + b"Content-Length: 9\r\n\r\nhalf", then="close"),
        200,
        Failure.PROTOCOL,
        excerpt=b"half",
    ),
    "too long a body": Hostile(
        says(HEAD + b"Content-Length: 2\r\n\r\nok too long"), 200, excerpt=b"ok"
    ),
    "too long a body, in pieces": Hostile(
        says(HEAD + b"Content-Length: 2\r\n\r\no", b"k too long"), 200, excerpt=b"ok"
    ),
    "negative Content-Length": no_answer(
        says(HEAD + b"Content-Length: -1\r\n\r\n"), Failure.PROTOCOL
    ),
    "two Content-Lengths": no_answer(
        says(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"), Failure.PROTOCOL
    ),
    "length and chunks": no_answer(
        says(HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok"), Failure.PROTOCOL
    ),
    "invalid chunking": Hostile(
        says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nno\r\n"),
        200,
        Failure.PROTOCOL,
        excerpt=b"",
    ),
    "invalid chunking after a head in halves": Hostile(
        slowly(HEAD + b"Transfer-Encoding: chunked\r\n\r", b"\nzz\r\nno\r\n"),
        200,
        Failure.PROTOCOL,
        excerpt=b"",
    ),
    "invalid chunking after a while": Hostile(
        slowly(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", b"zz\r\nno\r\n"),
        200,
        Failure.PROTOCOL,
        excerpt=b"ok",
    ),
    "a long body until the end": Hostile(
        says(HEAD + b"\r\n" + b"x" * 20000, then="close"), 200, excerpt=b"x" * EXCERPT_BYTES
    ),
    "chunks that break off": Hostile(
        says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhal", then="close"),
        200,
        Failure.PROTOCOL,
        excerpt=b"hal",
    ),
    "HTTP/0.9": no_answer(says(b"<html>ok</html>", then="close"), Failure.PROTOCOL),
    "HTTP/2": no_answer(says(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"), Failure.PROTOCOL),
    "garbage": no_answer(says(bytes(range(256)) * 4), Failure.PROTOCOL),
    "TLS on a plain port": no_answer(says(b"\x15\x03\x01\x00\x02\x02\x46"), Failure.PROTOCOL),
    "a status that is no number": no_answer(says(b"HTTP/1.1 2x0 OK\r\n\r\n"), Failure.PROTOCOL),
    "a status of four digits": no_answer(says(b"HTTP/1.1 2000 OK\r\n\r\n"), Failure.PROTOCOL),
    "a folded header": Hostile(
        says(HEAD + b"A: b\r\n c\r\nContent-Length: 2\r\n\r\nok"), 200, excerpt=b"ok"
    ),
    "lines without CR": Hostile(
        says(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), 200, excerpt=b"ok"
    ),
    "NUL in a header": no_answer(
        says(HEAD + b"A: \x00\r\nContent-Length: 0\r\n\r\n"), Failure.PROTOCOL
    ),
    "a bare CR in a header": no_answer(
        says(HEAD + b"A: b\rX-Injected: c\r\nContent-Length: 0\r\n\r\n"), Failure.PROTOCOL
    ),
    # Broken off
    "closed without an answer": no_answer(says(then="close"), Failure.RESET),
    "half closed without an answer": no_answer(says(then="half close"), Failure.RESET),
    "reset after the request": no_answer(says(then="reset"), Failure.RESET),
    "reset in the head": no_answer(says(HEAD + b"Content-", then="reset"), Failure.RESET),
    "closed in the head": no_answer(says(HEAD + b"Content-", then="close"), Failure.RESET),
    "reset in the body": Hostile(
        says(HEAD + b"Content-Length: 9\r\n\r\n", then="reset"), 200, Failure.PROTOCOL
    ),
    # Odd but whole
    "switching protocols": Hostile(
        says(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbinary"), 101
    ),
    "early hints, then an answer": Hostile(
        says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3, OK), 200, excerpt=b"ok"
    ),
    "an unknown status": Hostile(says(b"HTTP/1.1 799 What\r\nContent-Length: 0\r\n\r\n"), 799),
    "no content": Hostile(says(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, excerpt=b""),
    "a body until the end": Hostile(says(HEAD + b"\r\nok", then="close"), 200, excerpt=b"ok"),
    "a body with NUL and no UTF-8": Hostile(
        says(HEAD + b"Content-Length: 4\r\n\r\n\x00\xff\xfe\x80"), 200, excerpt=b"\x00\xff\xfe\x80"
    ),
    "headers with no UTF-8": Hostile(
        says(HEAD + b"A: \xff\xfe\r\nRetry-After: \xff\r\nContent-Length: 2\r\n\r\nok"),
        200,
        excerpt=b"ok",
    ),
    "a compressed body that is none": Hostile(
        says(HEAD + b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\nok"), 200, excerpt=b"ok"
    ),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_hostile_answer_costs_bounded_time_and_is_told_as_it_was(
    sender: Sender, kind: str
) -> None:
    """Each kind of answer ends on time, is told rightly, and leaves the sender unharmed."""
    expected = KINDS[kind]
    async with RawReceiver(expected.script) as receiver, RawReceiver() as honest:
        progress = Progress()
        never_ends = expected.failure is Failure.TIMEOUT
        seconds = DEADLINE if never_ends else PATIENCE
        answer = await sender.send(parcel(receiver.url, seconds=seconds), progress)
        assert (answer.status_code, answer.failure, answer.phase) == (
            expected.status,
            expected.failure,
            expected.phase,
        )
        if expected.excerpt is not None:
            assert answer.excerpt == expected.excerpt
        assert answer.duration_seconds < DEADLINE + SLACK
        assert progress.written
        # A window of 64 KiB on either side, asyncio's own buffers, and nothing more.
        assert receiver.talks[0].sent < 1_500_000
        assert (await sender.send(parcel(honest.url))).status_code == 200
        if answer.failure is not None:
            await wait_for(receiver.talks[0].ended.is_set)


def recorded(kind: Hostile) -> tuple[str, str | None, int | None]:
    """Status, reason and HTTP status that must stand in the outbox after one attempt."""
    if kind.status is None:
        assert kind.failure is not None
        return "dead", "unknown", None
    if 200 <= kind.status < 300:
        return "delivered", None, kind.status
    return "dead", "exhausted", kind.status


async def test_all_hostile_receivers_at_once_leave_the_worker_unharmed(
    engine: Engine, database_url: str
) -> None:
    """Each ends in the right record, memory stays bounded, and honest deliveries go through."""
    process = psutil.Process()
    async with AsyncExitStack() as running:
        rig = await running.enter_async_context(engine_rig(database_url, start=False))
        kinds = {
            name: await running.enter_async_context(RawReceiver(kind.script))
            for name, kind in KINDS.items()
        }
        honest = await running.enter_async_context(RawReceiver())
        policy = {"secret_ciphertext": SEALED, "max_retries": 0, "on_unknown": "stop"}
        with engine.begin() as connection:
            expected = {}
            for name, kind in KINDS.items():
                never_ends = kind.failure is Failure.TIMEOUT
                endpoint_id = rows.add_endpoint(
                    connection,
                    url=kinds[name].url,
                    timeout_seconds=1.0 if never_ends else PATIENCE,
                    **policy,
                )
                delivery_id = rows.add_delivery(connection, endpoint_id=endpoint_id)
                expected[delivery_id] = (name, *recorded(kind))
            endpoint_id = rows.add_endpoint(connection, url=honest.url, **policy)
            for _ in range(20):
                delivery_id = rows.add_delivery(connection, endpoint_id=endpoint_id)
                expected[delivery_id] = ("honest", "delivered", None, 200)
        before = process.memory_info().rss
        await rig.engine.start()
        await until(lambda: counts(engine).keys() <= {"dead", "delivered"}, seconds=30)
        grown = process.memory_info().rss - before
        with engine.connect() as connection:
            found = {
                delivery_id: (
                    name,
                    *(
                        rows.delivery(connection, delivery_id)[each]
                        for each in ("status", "reason")
                    ),
                    rows.attempts(connection, delivery_id)[-1]["status_code"],
                )
                for delivery_id, (name, *_) in expected.items()
            }
        assert found == expected
        assert rig.engine.trouble is None
        # What all of them together may take, receivers and their floods in this process included.
        assert grown < 64 * 1024 * 1024


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.1:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "/hook",
        "//127.0.0.1:{port}/",
        "ftp://x/",
        "",
    ],
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_is_never_followed(
    sender: Sender, status: int, place: str
) -> None:
    """A redirect to anywhere leads nowhere: its status is the answer, one request was made."""
    async with RawReceiver() as elsewhere:
        location = place.format(port=elsewhere.port).encode()
        head = b"HTTP/1.1 %d Moved\r\nLocation: %s\r\n" % (status, location)
        async with RawReceiver(says(head + b"Content-Length: 0\r\n\r\n")) as receiver:
            answer = await sender.send(parcel(receiver.url))
            assert (answer.status_code, answer.failure) == (status, None)
            assert receiver.talks[0].received.count(b"POST") == len(receiver.talks) == 1
        assert elsewhere.talks == []


@pytest.mark.parametrize(
    "value",
    ["120", "-1", "9" * 128, "Fri, 31 Dec 9999 23:59:59 GMT", "soon", "1e999", ""],
)
async def test_retry_after_is_told_as_it_came(sender: Sender, value: str) -> None:
    """Whatever Retry-After says, the sender tells it and leaves the judging to the core."""
    answer = b"HTTP/1.1 503 Busy\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n" % value.encode()
    async with RawReceiver(says(answer)) as receiver:
        got = await sender.send(parcel(receiver.url))
    assert (got.status_code, got.retry_after) == (503, value)


async def test_an_answer_before_the_request_was_read_is_taken(sender: Sender) -> None:
    """A receiver may refuse a body that it has not read; the rest of it is then held back."""

    async def refuse(talk: Conversation) -> None:
        await talk.head()
        await talk.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await talk.gone()

    async with RawReceiver(refuse) as receiver:
        progress = Progress()
        body = b"x" * (32 * 1024 * 1024)
        answer = await sender.send(parcel(receiver.url, body=body, seconds=5), progress)
        assert (answer.status_code, answer.failure) == (413, None)
        assert not progress.written
        await wait_for(receiver.talks[0].ended.is_set)
        assert receiver.received < len(body)


async def test_a_receiver_that_never_accepts_is_cut_on_time(sender: Sender) -> None:
    """The kernel may accept for a receiver that sleeps; the attempt still ends on time."""
    with socket.create_server(("127.0.0.1", 0)) as asleep:
        url = f"http://127.0.0.1:{asleep.getsockname()[1]}/"
        answer = await sender.send(parcel(url, seconds=DEADLINE))
    assert (answer.failure, answer.phase) == (Failure.TIMEOUT, Phase.SENT)
    assert answer.duration_seconds < DEADLINE + SLACK


async def test_a_reset_before_the_request_is_never_an_answer(sender: Sender) -> None:
    """A receiver that resets every connection at once yields a loss, sent or not, and no leak."""

    async def reset(talk: Conversation) -> None:
        talk.reset()

    files = psutil.Process().num_fds()
    async with RawReceiver(reset) as receiver:
        for _ in range(20):
            answer = await sender.send(parcel(receiver.url))
            assert answer.status_code is None
            assert answer.failure in (Failure.RESET, Failure.CONNECT)
            assert answer.phase in (Phase.CONNECT, Phase.SENT)
    await wait_for(lambda: psutil.Process().num_fds() <= files)


async def test_many_hostile_receivers_do_not_delay_an_honest_one(sender: Sender) -> None:
    """While a hundred attempts hang at drips and floods, others are answered at once."""
    hostile = [KINDS[kind].script for kind in ("dripping header", "dripping body", "silence")]
    async with (
        RawReceiver(hostile[0]) as first,
        RawReceiver(hostile[1]) as second,
        RawReceiver(hostile[2]) as third,
        RawReceiver() as honest,
    ):
        hanging = [
            asyncio.create_task(sender.send(parcel(receiver.url, seconds=0.6)))
            for receiver in (first, second, third)
            for _ in range(33)
        ]
        await wait_for(lambda: len(first.talks) == len(second.talks) == len(third.talks) == 33)
        durations = []
        for _ in range(30):
            answer = await sender.send(parcel(honest.url))
            assert answer.status_code == 200
            durations.append(answer.duration_seconds)
        answers = await asyncio.gather(*hanging)
        assert {answer.failure for answer in answers} == {Failure.TIMEOUT}
    assert sorted(durations)[15] < 0.1


class TestTls:
    """A receiver that is not who it says it is gets no byte."""

    @pytest.fixture
    async def tls_sender(self, authority: trustme.CA) -> AsyncIterator[Sender]:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=context))
        yield sender
        await sender.aclose()

    async def attempt(self, sender: Sender, certificate: trustme.LeafCert) -> tuple[Answer, int]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        async with RawReceiver(tls=context) as receiver:
            answer = await sender.send(parcel(receiver.url, seconds=5))
            return answer, receiver.received

    async def test_a_good_certificate_is_accepted(
        self, tls_sender: Sender, authority: trustme.CA
    ) -> None:
        """The same sender and authority work with a certificate that is right."""
        answer, received = await self.attempt(tls_sender, authority.issue_cert("127.0.0.1"))
        assert (answer.status_code, answer.phase) == (200, Phase.BODY)
        assert received > 0

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("self-signed", "certificate: "),
            ("wrong host", "127.0.0.1"),
            ("expired", "certificate has expired"),
            ("not yet valid", "certificate is not yet valid"),
        ],
    )
    async def test_a_bad_certificate_is_a_tls_failure_and_nothing_is_sent(
        self, tls_sender: Sender, authority: trustme.CA, name: str, why: str
    ) -> None:
        """Self-signed, for another host, expired or early: refused, and the reason is told."""
        now = datetime.now(UTC)
        year = timedelta(days=365)
        certificate = {
            "self-signed": lambda: trustme.CA().issue_cert("127.0.0.1"),
            "wrong host": lambda: authority.issue_cert("receiver.example"),
            "expired": lambda: authority.issue_cert("127.0.0.1", not_after=now - year),
            "not yet valid": lambda: authority.issue_cert(
                "127.0.0.1", not_before=now + year, not_after=now + 2 * year
            ),
        }[name]()
        answer, received = await self.attempt(tls_sender, certificate)
        assert (answer.failure, answer.phase) == (Failure.TLS, Phase.TLS)
        assert why in answer.detail
        assert received == 0

    async def test_the_systems_authorities_decide_unless_told_otherwise(
        self, authority: trustme.CA
    ) -> None:
        """A certificate of an authority that the system does not know is refused."""
        sender = Sender(AiohttpTransport(LOOPBACK))
        answer, received = await self.attempt(sender, authority.issue_cert("127.0.0.1"))
        await sender.aclose()
        assert (answer.failure, answer.phase, received) == (Failure.TLS, Phase.TLS, 0)

    async def test_an_old_protocol_is_refused(self, authority: trustme.CA) -> None:
        """TLS 1.1 is not spoken, even where the given context would."""
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(theirs)
        ours, plain = (ssl.create_default_context() for _ in range(2))
        for context in (theirs, ours, plain):
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
                if context is not ours:
                    context.maximum_version = ssl.TLSVersion.TLSv1_1
        for context in (ours, plain):
            authority.configure_trust(context)
        sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=ours))
        async with RawReceiver(tls=theirs) as receiver:
            _, control = await asyncio.open_connection("127.0.0.1", receiver.port, ssl=plain)
            assert control.get_extra_info("ssl_object").version() == "TLSv1.1"
            control.transport.abort()
            answer = await sender.send(parcel(receiver.url, seconds=5))
            assert (answer.failure, answer.phase) == (Failure.TLS, Phase.TLS)
            assert receiver.received == 0
        await sender.aclose()

    async def test_a_plain_receiver_on_a_tls_url_is_a_tls_failure(self, sender: Sender) -> None:
        """A receiver that does not speak TLS gets the greeting, and no request."""

        async def http_only(talk: Conversation) -> None:
            await talk.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await talk.gone()

        async with RawReceiver(http_only) as receiver:
            url = receiver.url.replace("http:", "https:")
            answer = await sender.send(parcel(url, seconds=5))
            assert (answer.failure, answer.phase) == (Failure.TLS, Phase.TLS)
            assert b"POST" not in receiver.talks[0].received

    async def test_a_handshake_that_drags_is_cut_on_time(self, sender: Sender) -> None:
        """The deadline covers the TLS handshake too, and nothing counts as sent."""

        async def mute(talk: Conversation) -> None:
            await talk.gone()

        async with RawReceiver(mute) as receiver:
            url = receiver.url.replace("http:", "https:")
            answer = await sender.send(parcel(url, seconds=DEADLINE))
            assert (answer.failure, answer.phase) == (Failure.TIMEOUT, Phase.TLS)
            assert answer.duration_seconds < DEADLINE + SLACK

    async def test_a_reset_in_the_handshake_is_a_tls_failure(self, sender: Sender) -> None:
        """A connection lost before the request is no loss of the request."""

        async def reset(talk: Conversation) -> None:
            await talk.hear()
            talk.reset()

        async with RawReceiver(reset) as receiver:
            answer = await sender.send(parcel(receiver.url.replace("http:", "https:")))
            assert (answer.failure, answer.phase) == (Failure.TLS, Phase.TLS)


def test_there_are_many_kinds() -> None:
    """The table of hostile answers holds at least twenty-five kinds, each named once."""
    assert len(KINDS) >= 25
    assert answers_ok not in [kind.script for kind in KINDS.values()]
