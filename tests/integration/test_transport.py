from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network

import httpx
import psutil
import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

from signalpost.core.outcomes import Failure, Phase
from signalpost.core.targets import wire_target
from signalpost.sender import USER_AGENT, Parcel, Progress, Sender
from signalpost.transport import AiohttpTransport
from signalpost.transport.connector import Connector, Origin
from signalpost.transport.opening import WireSocket
from signalpost.transport.resolver import ThreadResolver
from tests.raw_receiver import OK, Conversation, RawReceiver, wait_for

LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]
TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # quicker than loading authorities
LARGE = b"x" * (16 * 1024 * 1024)


def no_objection() -> Failure | None:
    return None


def parcel(
    url: str,
    *,
    body: bytes = b"{}",
    timeout_seconds: float = 5,
    last_check: Callable[[], Failure | None] = no_objection,
) -> Parcel:
    return Parcel(url, {"Content-Type": "application/json"}, body, timeout_seconds, last_check)


def open_files() -> int:
    return psutil.Process().num_fds()


class Names(AbstractResolver):
    """A resolver that answers as the test says, a turn at a time; the last turn stays."""

    def __init__(self, *turns: list[str]) -> None:
        self.turns = list(turns)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked += 1
        addresses = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=family, proto=0, flags=0)
            for ip in addresses
        ]

    async def close(self) -> None:
        pass


class Never(Names):
    """A resolver that does not answer."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=TRUSTS_NOBODY))
    yield sender
    await sender.aclose()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def receiver_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
async def tls_sender(authority: trustme.CA) -> AsyncIterator[Sender]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=context))
    yield sender
    await sender.aclose()


class TestOnTheWire:
    """What a receiver sees is what was signed."""

    @pytest.mark.parametrize(
        "target",
        [
            *("", "/", "/hook", "/%7euser/%2F%2f", "//a///b", "/a/./b/../c", "/..", "/a?b=c&&d"),
            *("/?", "/a?%3d=%26+x", "/ä b?[ü]", "/;v=1,2:@!$&'()*+=~", "/a?b?c/d", "/100%#part"),
        ],
    )
    async def test_the_receiver_sees_the_target_that_was_signed(
        self, sender: Sender, target: str
    ) -> None:
        """Request line and Host header are exactly what wire_target tells the signer."""
        async with RawReceiver() as receiver:
            url = f"http://LOCALHOST:{receiver.port}{target}"
            answer = await sender.send(parcel(url))
            assert answer.status_code == 200
            lines = bytes(receiver.talks[0].received).decode("ascii").split("\r\n")
        authority, raw_path, query = wire_target(url)
        assert lines[0] == f"POST {raw_path}{'?' if query else ''}{query} HTTP/1.1"
        assert lines[1] == f"Host: {authority}" == f"Host: localhost:{receiver.port}"

    async def test_the_request_holds_the_given_headers_and_no_others(self, sender: Sender) -> None:
        """Nothing but Host, User-Agent, Accept-Encoding and Content-Length is added."""
        async with RawReceiver() as receiver:
            await sender.send(parcel(receiver.url, body=b'{"a":1}'))
            assert bytes(receiver.talks[0].received) == (
                b"POST /hook HTTP/1.1\r\n"
                b"Host: 127.0.0.1:%d\r\n"
                b"User-Agent: %s\r\n"
                b"Accept-Encoding: identity\r\n"
                b"Content-Type: application/json\r\n"
                b"Content-Length: 7\r\n"
                b"\r\n"
                b'{"a":1}' % (receiver.port, USER_AGENT.encode())
            )

    async def test_an_empty_body_is_sent_as_one(self, sender: Sender) -> None:
        """A body of no bytes has its Content-Length of 0 and an answer."""
        async with RawReceiver() as receiver:
            assert (await sender.send(parcel(receiver.url, body=b""))).status_code == 200
            assert b"Content-Length: 0\r\n" in receiver.talks[0].received

    async def test_a_large_body_arrives_whole(self, sender: Sender) -> None:
        """A body of many segments arrives byte for byte, over a connection that is kept."""
        bodies: list[bytes] = []

        async def keep(talk: Conversation) -> None:
            while True:
                bodies.append((await talk.request()).partition(b"\r\n\r\n")[2])
                await talk.say(OK)

        async with RawReceiver(keep) as receiver:
            for _ in range(2):
                answer = await sender.send(parcel(receiver.url, body=LARGE))
                assert answer.status_code == 200
            assert len(receiver.talks) == 1
        assert bodies == [LARGE, LARGE]

    async def test_a_header_with_a_line_break_is_not_sent(self, sender: Sender) -> None:
        """A header that would forge another one is our defect, and nothing leaves."""
        async with RawReceiver() as receiver:
            forged = Parcel(receiver.url, {"X-Id": "1\r\nX-Forged: 2"}, b"{}", 5, no_objection)
            answer = await sender.send(forged)
            assert (answer.failure, answer.phase) == (Failure.INTERNAL, Phase.NONE)
            assert receiver.talks == []

    async def test_proxy_variables_are_ignored(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A delivery goes straight to its receiver, whatever proxy the environment names."""
        async with RawReceiver() as receiver, RawReceiver() as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            assert (await sender.send(parcel(receiver.url))).status_code == 200
            assert proxy.talks == []

    async def test_cookies_are_not_kept(self, sender: Sender) -> None:
        """What a receiver sets as a cookie never comes back to it."""

        async def set_cookie(talk: Conversation) -> None:
            while True:
                await talk.request()
                await talk.say(b"HTTP/1.1 204 No Content\r\nSet-Cookie: a=b; Path=/\r\n\r\n")

        async with RawReceiver(set_cookie) as receiver:
            for _ in range(2):
                assert (await sender.send(parcel(receiver.url))).status_code == 204
            assert b"ookie" not in receiver.talks[0].received

    async def test_it_serves_an_httpx_client_too(self) -> None:
        """The transport keeps httpx's contract: a stock client works over it."""
        async with (
            RawReceiver() as receiver,
            httpx.AsyncClient(
                transport=AiohttpTransport(LOOPBACK, ssl_context=TRUSTS_NOBODY)
            ) as client,
        ):
            response = await client.post(receiver.url, json={"a": 1})
            assert (response.status_code, response.text) == (200, "ok")

            async def pieces() -> AsyncIterator[bytes]:
                yield b"a"
                yield b"b"

            streamed = await client.post(
                receiver.url, content=pieces(), headers={"Content-Length": "2"}
            )
            assert streamed.status_code == 200
            for unfit in ("ftp://127.0.0.1/", "http://127.0.0.1:1/", "http://10.0.0.1/"):
                with pytest.raises(httpx.TransportError):
                    await client.post(unfit)


class TestTheLastCheck:
    """Between a connection and the first byte nothing else happens."""

    async def test_the_first_byte_follows_in_the_same_step_of_the_loop(
        self, sender: Sender
    ) -> None:
        """What runs next in the event loop after the check finds the request already sent."""
        seen: list[tuple[Phase, bool]] = []
        progress = Progress()

        def check() -> Failure | None:
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: seen.append((progress.phase, progress.written)))
            return None

        async with RawReceiver() as receiver:
            await sender.send(parcel(receiver.url, last_check=check), progress)
            progress = Progress()
            await sender.send(parcel(receiver.url, last_check=check), progress)
            assert len(receiver.talks) == 1
        assert seen == [(Phase.SENT, True), (Phase.SENT, True)]

    async def test_it_is_asked_once_and_only_when_the_connection_stands(
        self, tls_sender: Sender, receiver_tls: ssl.SSLContext
    ) -> None:
        """The check sees a phase past TLS on a new connection, and is asked once an attempt."""
        progress = Progress()
        asked: list[Phase] = []

        def check() -> Failure | None:
            asked.append(progress.phase)
            return None

        async with RawReceiver(tls=receiver_tls) as receiver:
            await tls_sender.send(parcel(receiver.url, last_check=check), progress)
            progress = Progress()
            await tls_sender.send(parcel(receiver.url, last_check=check), progress)
        assert asked == [Phase.TLS, Phase.NONE]

    @pytest.mark.parametrize("encrypted", [False, True])
    async def test_an_objection_sends_nothing_and_leaks_nothing(
        self, tls_sender: Sender, receiver_tls: ssl.SSLContext, *, encrypted: bool
    ) -> None:
        """After an objection the receiver has seen 0 bytes, and the connection serves on."""
        async with RawReceiver(tls=receiver_tls if encrypted else None) as receiver:
            progress = Progress()
            answer = await tls_sender.send(
                parcel(receiver.url, last_check=lambda: Failure.EXPIRED), progress
            )
            files = open_files()
            for _ in range(50):
                again = await tls_sender.send(
                    parcel(receiver.url, last_check=lambda: Failure.LEASE)
                )
                assert (again.failure, again.phase) == (Failure.LEASE, Phase.NONE)
            assert (answer.failure, progress.written) == (Failure.EXPIRED, False)
            assert answer.phase is (Phase.TLS if encrypted else Phase.CONNECT)
            assert (open_files(), receiver.received) == (files, 0)
            assert (await tls_sender.send(parcel(receiver.url))).status_code == 200
            assert len(receiver.talks) == 1

    async def test_a_check_that_fails_itself_sends_nothing(self, sender: Sender) -> None:
        """An exception of the check is our defect: nothing is sent, the connection is dropped."""

        def broken() -> Failure | None:
            raise ZeroDivisionError

        async with RawReceiver() as receiver:
            answer = await sender.send(parcel(receiver.url, last_check=broken))
            assert (answer.failure, answer.detail) == (Failure.INTERNAL, "ZeroDivisionError")
            await wait_for(receiver.talks[0].ended.is_set)
            assert receiver.received == 0


class TestReuse:
    """A connection is used again exactly while both sides have said all of an exchange."""

    async def test_a_finished_exchange_leaves_the_connection_for_the_next(
        self, sender: Sender
    ) -> None:
        """Any number of attempts in a row use one connection."""
        async with RawReceiver() as receiver:
            for _ in range(20):
                assert (await sender.send(parcel(receiver.url))).status_code == 200
            assert len(receiver.talks) == 1

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 4999,
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok too much",
            OK + b"HTTP/1.1 500 Pushed\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ],
    )
    async def test_an_exchange_with_a_rest_ends_its_connection(
        self, sender: Sender, answer: bytes
    ) -> None:
        """After a close, an unread rest, or bytes too many, the next attempt connects anew."""

        async def script(talk: Conversation) -> None:
            await talk.request()
            await talk.say(answer)
            await talk.gone()

        async with RawReceiver(script) as receiver:
            for _ in range(2):
                got = await sender.send(parcel(receiver.url))
                assert got.status_code in (200, 101)
                assert got.failure is None
            assert len(receiver.talks) == 2
            await wait_for(lambda: all(talk.ended.is_set() for talk in receiver.talks))

    @pytest.mark.parametrize("noticed", [False, True])
    @pytest.mark.parametrize("encrypted", [False, True])
    async def test_a_hung_up_connection_is_replaced_without_costing_the_attempt(
        self, tls_sender: Sender, receiver_tls: ssl.SSLContext, *, noticed: bool, encrypted: bool
    ) -> None:
        """A receiver that closed an idle connection gets the next request on a new one."""
        asked = 0

        def check() -> Failure | None:
            nonlocal asked
            asked += 1
            return None

        async with RawReceiver(tls=receiver_tls if encrypted else None) as receiver:
            assert (await tls_sender.send(parcel(receiver.url))).status_code == 200
            receiver.talks[0].hang_up()
            if noticed:
                await wait_for(receiver.talks[0].ended.is_set)
            answer = await tls_sender.send(parcel(receiver.url, last_check=check))
            assert (answer.status_code, answer.failure, asked) == (200, None, 1)
            assert len(receiver.talks) == 2
            assert receiver.talks[0].received.count(b"POST") == 1

    @pytest.mark.parametrize("pushed", [b"HTTP/1.1 299 Pushed\r\nContent-Length: 0\r\n\r\n", b"H"])
    @pytest.mark.parametrize("read", [False, True])
    async def test_an_answer_pushed_on_an_idle_connection_answers_nothing(
        self, sender: Sender, pushed: bytes, *, read: bool
    ) -> None:
        """What a receiver says unasked is dropped with its connection, read already or not."""
        async with RawReceiver() as receiver:
            assert (await sender.send(parcel(receiver.url))).status_code == 200
            first = receiver.talks[0]
            first.push(pushed)
            if read:
                pool = sender._transport._connector._pool  # type: ignore[attr-defined]
                ((protocol, _),) = next(iter(pool._conns.values()))
                await wait_for(lambda: protocol.transport.get_protocol().heard == len(pushed))
            answer = await sender.send(parcel(receiver.url))
            assert (answer.status_code, answer.excerpt) == (200, b"ok")
            assert len(receiver.talks) == 2
            assert first.received.count(b"POST") == 1

    async def test_many_hung_up_connections_are_all_passed_over(self, sender: Sender) -> None:
        """Twenty dead connections in a row cost one attempt nothing."""
        async with RawReceiver() as receiver:
            await asyncio.gather(*(sender.send(parcel(receiver.url)) for _ in range(20)))
            assert len(receiver.talks) == 20
            for talk in receiver.talks:
                talk.hang_up()
            assert (await sender.send(parcel(receiver.url))).status_code == 200
            assert len(receiver.talks) == 21

    @pytest.mark.parametrize("speech", [b"", OK, b"H"])
    async def test_a_receiver_that_hangs_up_or_speaks_at_once_has_surely_received_nothing(
        self, sender: Sender, speech: bytes
    ) -> None:
        """A new connection found closed or spoken on before the first byte is a loss of nothing."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)

            async def answer_early() -> bytes:
                while True:
                    try:
                        accepted, _ = listener.accept()
                    except BlockingIOError:
                        await asyncio.sleep(0)
                        continue
                    with accepted:
                        if speech:
                            accepted.send(speech)
                        else:
                            accepted.shutdown(socket.SHUT_WR)
                        await answered.wait()
                        accepted.setblocking(False)
                        with contextlib.suppress(ConnectionResetError):
                            return accepted.recv(9)
                        return b""

            answered = asyncio.Event()
            early = asyncio.create_task(answer_early())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            answer = await sender.send(parcel(url))
            answered.set()
            received = await early
        assert (answer.failure, answer.phase) == (Failure.RESET, Phase.CONNECT)
        assert received == b""

    async def test_closing_the_sender_closes_every_connection(self) -> None:
        """After aclose no file is left open."""
        files = open_files()
        sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=TRUSTS_NOBODY))
        async with RawReceiver() as receiver:
            await asyncio.gather(*(sender.send(parcel(receiver.url)) for _ in range(8)))
            await sender.aclose()
            await wait_for(lambda: all(talk.ended.is_set() for talk in receiver.talks))
        await wait_for(lambda: open_files() <= files)

    async def test_a_sender_that_sent_nothing_closes_too(self) -> None:
        """Closing before the first attempt is no error."""
        await Sender(AiohttpTransport(ssl_context=TRUSTS_NOBODY)).aclose()


class TestTheGate:
    """Nothing is connected to but public addresses, and what the operator allows."""

    @pytest.mark.parametrize(
        "host",
        [
            *("127.0.0.1", "localhost", "LocalHost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
            *("2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "0"),
            *("2130706433.", "0x7f.1.", "017700000001", "[0:0:0:0:0:ffff:7f00:1]", "[::1]"),
            *("0.0.0.0", "[::]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"),  # noqa: S104
            *("１２７.0.0.1", "127。0。0。1", "ⓛocalhost"),  # noqa: RUF001
        ],
    )
    @pytest.mark.parametrize("scheme", ["http", "https"])
    async def test_no_spelling_of_this_host_is_connected_to(self, scheme: str, host: str) -> None:
        """Loopback is refused at the connect, however the URL spells it."""
        sender = Sender(AiohttpTransport(ssl_context=TRUSTS_NOBODY))
        async with RawReceiver() as receiver:
            progress = Progress()
            answer = await sender.send(parcel(f"{scheme}://{host}:{receiver.port}/"), progress)
            await sender.aclose()
            assert (answer.failure, answer.phase) == (Failure.ADDRESS, Phase.CONNECT)
            assert not progress.written
            assert receiver.talks == []

    @pytest.mark.parametrize(
        "host", ["[::1%25lo]", "[::1%lo]", "[fe80::1%25lo]", "127.0.0.1%00.example", "[::1%00]"]
    )
    async def test_a_zone_or_an_escape_in_a_host_is_no_url(self, host: str) -> None:
        """What only this machine could make sense of is refused before anything is looked up."""
        sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=TRUSTS_NOBODY))
        answer = await sender.send(parcel(f"https://{host}/"))
        await sender.aclose()
        assert (answer.failure, answer.phase) == (Failure.URL, Phase.NONE)

    @pytest.mark.parametrize(
        ("host", "reason"),
        [
            ("169.254.169.254", "a cloud metadata address"),
            ("[fd00:ec2::254]", "a cloud metadata address"),
            ("10.0.0.1", "a private address"),
            ("100.64.0.1", "a carrier's shared address"),
            ("[fe80::1]", "a link-local address"),
        ],
    )
    async def test_a_private_address_is_refused_and_named(self, host: str, reason: str) -> None:
        """The answer's detail says what kind of address it was and where it could be allowed."""
        sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=TRUSTS_NOBODY))
        answer = await sender.send(parcel(f"https://{host}/"))
        await sender.aclose()
        assert answer.failure is Failure.ADDRESS
        assert reason in answer.detail
        assert "OUTBOUND_ALLOW_NETWORKS" in answer.detail

    async def test_plain_http_needs_permission_also_to_a_public_address(self) -> None:
        """An http URL is refused unless its address lies in an allowed network."""
        sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=TRUSTS_NOBODY))
        answer = await sender.send(parcel("http://8.8.8.8/"))
        await sender.aclose()
        assert (answer.failure, answer.phase) == (Failure.ADDRESS, Phase.CONNECT)
        assert "plain http" in answer.detail

    async def test_a_name_that_resolves_to_a_refused_address_is_refused(self) -> None:
        """The address decides, not the name; each of a name's addresses is judged."""
        names = Names(
            ["10.0.0.1", "127.0.0.1", "::1", "::ffff:10.0.0.1", "fe80::1%lo", "not an address"]
        )
        sender = Sender(AiohttpTransport(ssl_context=TRUSTS_NOBODY, resolver=names))
        answer = await sender.send(parcel("https://receiver.example/"))
        await sender.aclose()
        assert (answer.failure, answer.phase) == (Failure.ADDRESS, Phase.CONNECT)

    async def test_a_refused_address_does_not_hide_a_permitted_one(self) -> None:
        """Of several addresses the refused are skipped, the dead passed over, the good one used."""
        async with RawReceiver() as receiver:
            names = Names(["10.0.0.1", "127.0.0.9", "127.0.0.1"])
            sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=TRUSTS_NOBODY, resolver=names))
            answer = await sender.send(parcel(f"http://receiver.example:{receiver.port}/"))
            await sender.aclose()
            assert answer.status_code == 200

    async def test_a_refused_address_beside_a_dead_one_is_a_failure_to_connect(self) -> None:
        """Where a permitted address was tried, the failure is that it could not be reached."""
        sender = Sender(
            AiohttpTransport(
                LOOPBACK, ssl_context=TRUSTS_NOBODY, resolver=Names(["10.0.0.1", "127.0.0.9"])
            )
        )
        answer = await sender.send(parcel("http://receiver.example:9/"))
        await sender.aclose()
        assert (answer.failure, answer.phase) == (Failure.CONNECT, Phase.CONNECT)

    async def test_a_name_that_changes_its_address_is_judged_anew(self) -> None:
        """A name that first resolved to a permitted address is refused once it does not."""

        async def once(talk: Conversation) -> None:
            await talk.request()
            await talk.say(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

        async with RawReceiver(once) as receiver:
            names = Names(["127.0.0.1"], ["10.0.0.1"])
            sender = Sender(
                AiohttpTransport(
                    LOOPBACK, ssl_context=TRUSTS_NOBODY, resolver=names, dns_cache_seconds=0
                )
            )
            url = f"http://receiver.example:{receiver.port}/"
            first = await sender.send(parcel(url))
            second = await sender.send(parcel(url))
            await sender.aclose()
        assert (first.status_code, second.failure) == (200, Failure.ADDRESS)

    async def test_a_name_is_asked_for_once_while_its_answer_is_fresh(self) -> None:
        """Attempts that connect at the same time, or shortly after, share one look-up."""

        async def once(talk: Conversation) -> None:
            await talk.request()
            await talk.say(OK)

        async with RawReceiver(once) as receiver:
            names = Names(["127.0.0.1"])
            sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=TRUSTS_NOBODY, resolver=names))
            url = f"http://receiver.example:{receiver.port}/"
            for _ in range(2):
                answers = await asyncio.gather(*(sender.send(parcel(url)) for _ in range(5)))
                assert {answer.status_code for answer in answers} == {200}
            await sender.aclose()
        assert names.asked == 1

    async def test_the_addresses_of_a_receiver_that_cannot_be_reached_are_asked_for_anew(
        self,
    ) -> None:
        """One that has moved is found by the next attempt, however fresh the old answer was."""
        async with RawReceiver() as receiver:
            names = Names(["127.0.0.9"], ["127.0.0.1"])
            sender = Sender(AiohttpTransport(LOOPBACK, ssl_context=TRUSTS_NOBODY, resolver=names))
            url = f"http://receiver.example:{receiver.port}/"
            first = await sender.send(parcel(url))
            second = await sender.send(parcel(url))
            await sender.aclose()
        assert (first.failure, second.status_code) == (Failure.CONNECT, 200)


class TestKeptConnections:
    """How long what is known of a receiver is used."""

    @pytest.mark.parametrize(("longest", "connections"), [(300.0, 1), (0.0, 2)])
    async def test_a_connection_that_is_too_old_is_not_used_again(
        self, longest: float, connections: int
    ) -> None:
        """A receiver behind a name that has moved is found, however busy the old one is kept."""

        async def serve(talk: Conversation) -> None:
            while True:
                await talk.request()
                await talk.say(OK)

        async with RawReceiver(serve) as receiver:
            transport = AiohttpTransport(
                LOOPBACK, ssl_context=TRUSTS_NOBODY, longest_seconds=longest
            )
            sender = Sender(transport)
            for _ in range(2):
                assert (await sender.send(parcel(receiver.url))).status_code == 200
            await sender.aclose()
            assert len(receiver.talks) == connections

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    async def test_a_new_connection_resumes_the_session_of_the_last(
        self, tls_sender: Sender, receiver_tls: ssl.SSLContext, version: ssl.TLSVersion
    ) -> None:
        """The second handshake checks no certificate again (RFC 8446, section 2.2)."""

        async def once(talk: Conversation) -> None:
            await talk.request()
            await talk.say(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

        receiver_tls.maximum_version = version
        progresses = [Progress(), Progress()]
        async with RawReceiver(once, tls=receiver_tls) as receiver:
            for progress in progresses:
                answer = await tls_sender.send(parcel(receiver.url), progress)
                assert answer.status_code == 200
        reused = [bool(one.tls and one.tls.session_reused) for one in progresses]
        assert reused == [False, True]
        assert progresses[1].tls is not None
        assert progresses[1].tls.getpeercert(), "known as well as after a whole handshake"


class TestResolving:
    """The system's resolver, in threads of its own."""

    async def test_a_name_gives_its_addresses_and_an_unknown_one_an_error(self) -> None:
        """Localhost is loopback; a name that cannot exist raises OSError."""
        resolver = ThreadResolver()
        found = await resolver.resolve("localhost", 80)
        assert {"127.0.0.1", "::1"} >= {result["host"] for result in found} != set()
        with pytest.raises(OSError, match=r"."):
            await resolver.resolve("no-such-name.invalid", 80)
        await resolver.close()

    async def test_a_name_that_does_not_exist_is_a_dns_failure(self, sender: Sender) -> None:
        """The attempt ends in the phase of resolving."""
        answer = await sender.send(parcel("https://no-such-name.invalid/"))
        assert (answer.failure, answer.phase) == (Failure.DNS, Phase.DNS)


class TestProgressUnderCancellation:
    """Wherever an attempt is cancelled, what it had done stays readable and nothing leaks."""

    async def cancelled(self, sender: Sender, sent: Parcel, phase: Phase) -> Progress:
        files = open_files()
        progress = Progress()
        sending = asyncio.create_task(sender.send(sent, progress))
        await wait_for(lambda: progress.phase is phase)
        # Let whatever the phase has begun go as far as it can.
        for _ in range(20):
            await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await wait_for(lambda: open_files() <= files + 1)
        return progress

    async def test_while_resolving(self) -> None:
        """A name that never resolves leaves the phase at dns."""
        sender = Sender(AiohttpTransport(ssl_context=TRUSTS_NOBODY, resolver=Never([])))
        progress = await self.cancelled(sender, parcel("https://receiver.example/"), Phase.DNS)
        assert (progress.phase, progress.written) == (Phase.DNS, False)
        await sender.aclose()

    async def test_while_waiting_for_the_look_up_of_another(self) -> None:
        """An attempt that shares a look-up under way is in the same phase."""
        sender = Sender(AiohttpTransport(ssl_context=TRUSTS_NOBODY, resolver=Never([])))
        sent = parcel("https://receiver.example/", timeout_seconds=0.05)
        answers = await asyncio.gather(*(sender.send(sent) for _ in range(3)))
        await sender.aclose()
        assert {(answer.failure, answer.phase) for answer in answers} == {
            (Failure.TIMEOUT, Phase.DNS)
        }

    async def test_while_connecting(self, sender: Sender) -> None:
        """A listener whose queue is full leaves the phase at connect."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}/"
            progress = await self.cancelled(sender, parcel(url), Phase.CONNECT)
            for filler in fillers:
                filler.close()
        assert (progress.phase, progress.written) == (Phase.CONNECT, False)

    async def test_while_shaking_hands(self, sender: Sender) -> None:
        """A receiver that never answers the TLS greeting leaves the phase at tls."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
            progress = await self.cancelled(sender, parcel(url), Phase.TLS)
        assert (progress.phase, progress.written) == (Phase.TLS, False)

    async def test_while_waiting_for_the_answer(self, sender: Sender) -> None:
        """A request that has left is known to have left."""

        async def silent(talk: Conversation) -> None:
            await talk.request()
            await talk.gone()

        async with RawReceiver(silent) as receiver:
            progress = await self.cancelled(sender, parcel(receiver.url), Phase.SENT)
            assert (progress.phase, progress.written) == (Phase.SENT, True)
            await wait_for(receiver.talks[0].ended.is_set)

    async def test_while_reading_the_body(self, sender: Sender) -> None:
        """A body under way is the last phase."""

        async def slow(talk: Conversation) -> None:
            await talk.request()
            await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
            await talk.gone()

        async with RawReceiver(slow) as receiver:
            progress = await self.cancelled(sender, parcel(receiver.url), Phase.BODY)
            assert (progress.phase, progress.written) == (Phase.BODY, True)
            await wait_for(receiver.talks[0].ended.is_set)

    @pytest.mark.parametrize("encrypted", [False, True])
    async def test_what_was_held_back_never_leaves(
        self, tls_sender: Sender, receiver_tls: ssl.SSLContext, *, encrypted: bool
    ) -> None:
        """A request cancelled half-written is known as such, and its rest is never sent."""
        cut = asyncio.Event()

        async def deaf(talk: Conversation) -> None:
            await talk.head()
            await cut.wait()
            await talk.gone()

        async with RawReceiver(deaf, tls=receiver_tls if encrypted else None) as receiver:
            sent = parcel(receiver.url, body=LARGE)
            progress = await self.cancelled(tls_sender, sent, Phase.SENT)
            assert not progress.written
            cut.set()
            await wait_for(receiver.talks[0].ended.is_set)
            assert 0 < receiver.received < len(LARGE)


class TestDeadline:
    """The time given is for everything, and is kept."""

    @pytest.mark.parametrize("seconds", [0.1, 0.25])
    async def test_a_silent_receiver_is_cut_on_time(self, sender: Sender, seconds: float) -> None:
        """The attempt ends within a few hundredths of a second of its deadline."""

        async def silent(talk: Conversation) -> None:
            await talk.gone()

        async with RawReceiver(silent) as receiver:
            answer = await sender.send(parcel(receiver.url, timeout_seconds=seconds))
        assert (answer.failure, answer.phase) == (Failure.TIMEOUT, Phase.SENT)
        assert seconds <= answer.duration_seconds < seconds + 0.15

    async def test_a_deadline_met_while_resolving_says_so(self) -> None:
        """A timeout before the first byte is no unknown: nothing was sent."""
        sender = Sender(AiohttpTransport(ssl_context=TRUSTS_NOBODY, resolver=Never([])))
        answer = await sender.send(parcel("https://receiver.example/", timeout_seconds=0.05))
        await sender.aclose()
        assert (answer.failure, answer.phase) == (Failure.TIMEOUT, Phase.DNS)


class TestTheSocket:
    """Whether all bytes have left is known below TLS."""

    @pytest.mark.parametrize("method", ["send", "sendmsg"])
    def test_it_knows_when_the_kernel_took_only_a_part(self, method: str) -> None:
        """A short write leaves the socket unflushed, a whole one flushed, a refused one neither."""

        def hand_over(data: bytes) -> int:
            return sock.send(data) if method == "send" else sock.sendmsg([data[:1], data[1:]])

        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            WireSocket(socket.AF_INET, socket.SOCK_STREAM, 0) as sock,
        ):
            sock.connect(listener.getsockname())
            sock.setblocking(False)
            assert hand_over(b"whole") == 5
            seen = [sock.flushed]
            assert hand_over(LARGE) < len(LARGE)
            seen.append(sock.flushed)
            with contextlib.suppress(BlockingIOError):
                while hand_over(LARGE):
                    pass
            assert [*seen, sock.flushed] == [True, False, False]


async def test_speech_before_the_request_is_noticed_on_a_new_connection() -> None:
    """A fresh connection on which the receiver spoke first is not fit for a request."""

    async def greet(talk: Conversation) -> None:
        await greeting.wait()
        await talk.say(OK)
        await talk.gone()

    greeting = asyncio.Event()
    connector = Connector(
        LOOPBACK,
        ssl.create_default_context(),
        keepalive_seconds=5,
        longest_seconds=300,
        dns_cache_seconds=5,
        resolver=None,
    )
    async with RawReceiver(greet) as receiver:
        lane = await connector.connect(Origin("http", "127.0.0.1", receiver.port), Progress())
        assert lane.quiet(tickets=False)
        assert lane.quiet(tickets=True)
        greeting.set()
        await wait_for(lambda: not lane.quiet(tickets=False))
        await wait_for(lambda: not lane.quiet(tickets=True))
        lane.abort()
    await connector.close()
