"""The Telegram courier against a real HTTP server that behaves, and misbehaves, as the Bot API."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import AsyncIterator

import pytest
from telegram import Bot
from telegram.error import BadRequest, InvalidToken

from signalpost.core.receipts import Receipt, Refused
from signalpost.demo import telegram_standin
from signalpost.demo.telegram_standin import Fault, TelegramStandIn, running_standin
from signalpost.telegram import TelegramCourier

TOKEN = f"123456:{secrets.token_urlsafe(20)}"
CHAT = "4711"
TALKATIVE = ("httpx", "httpcore", "telegram", "telegram.Bot", "telegram.request.BaseRequest")


@pytest.fixture
async def standin() -> AsyncIterator[TelegramStandIn]:
    async with TelegramStandIn(token=TOKEN, chat_id=CHAT) as running:
        yield running


@pytest.fixture
async def courier(standin: TelegramStandIn) -> AsyncIterator[TelegramCourier]:
    async with courier_to(standin.base_url) as ready:
        yield ready


def courier_to(
    base_url: str, *, token: str = TOKEN, chat_id: str = CHAT, timeout_seconds: float = 5
) -> TelegramCourier:
    return TelegramCourier(
        token, chat_id, base_url=base_url, timeout_seconds=timeout_seconds, spacing_seconds=0
    )


async def test_a_message_arrives_and_its_id_is_the_receipt(
    standin: TelegramStandIn, courier: TelegramCourier
) -> None:
    """What is delivered stands in the chat as it was given, and the receipt names it."""
    first = await courier.deliver("<b>Dead</b> &lt;letter&gt;")
    second = await courier.deliver("another")

    assert (first, second) == (Receipt("1"), Receipt("2"))
    assert [message.text for message in standin.messages] == [
        "<b>Dead</b> &lt;letter&gt;",
        "another",
    ]
    assert standin.messages[0].plain == "Dead <letter>"


@pytest.mark.parametrize("ending", ["", "/", "/bot", "/bot/"])
async def test_a_base_url_is_taken_as_people_write_it(
    standin: TelegramStandIn, ending: str
) -> None:
    """The address of a Bot API server works with and without its path and last slash."""
    async with courier_to(standin.base_url + ending) as courier:
        assert await courier.deliver("hello") == Receipt("1")


async def test_a_proxy_is_not_asked_for_loopback(
    standin: TelegramStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxy variables do not lead a message for this machine through a proxy."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with courier_to(standin.base_url) as courier:
        assert await courier.deliver("hello") == Receipt("1")


async def test_telegrams_wish_for_a_pause_is_handed_on(
    standin: TelegramStandIn, courier: TelegramCourier
) -> None:
    """A 429 is a refusal that carries the seconds which Telegram asked for."""
    standin.fail(telegram_standin.too_many(17))
    answer = await courier.deliver("hello")
    assert answer == Refused("Telegram asks for a pause", retry_after_seconds=17.0)


@pytest.mark.parametrize(
    ("asked", "waited"), [(10**9, 3600.0), (0, None), (-5, None)], ids=["endless", "zero", "past"]
)
async def test_a_senseless_pause_is_bounded(
    standin: TelegramStandIn, courier: TelegramCourier, asked: int, waited: float | None
) -> None:
    """No answer silences alerts for more than an hour; a 429 without a pause is a plain failure."""
    standin.fail(telegram_standin.too_many(asked))
    answer = await courier.deliver("hello")
    assert isinstance(answer, Refused)
    assert not answer.permanent
    assert answer.retry_after_seconds == waited


@pytest.mark.parametrize(
    ("fault", "variable"),
    [
        (telegram_standin.WRONG_TOKEN, "OPS_TELEGRAM_BOT_TOKEN"),
        (Fault(404, "Not Found"), "OPS_TELEGRAM_BOT_TOKEN"),
        (telegram_standin.WRONG_CHAT, "OPS_TELEGRAM_CHAT_ID"),
        (telegram_standin.BLOCKED, "OPS_TELEGRAM_CHAT_ID"),
    ],
)
async def test_what_a_person_must_mend_names_the_setting(
    standin: TelegramStandIn, courier: TelegramCourier, fault: Fault, variable: str
) -> None:
    """A wrong token, a wrong chat and a blocked bot are permanent, and say which setting to see."""
    standin.fail(fault)
    answer = await courier.deliver("hello")
    assert isinstance(answer, Refused)
    assert answer.permanent
    assert variable in answer.reason
    assert TOKEN not in answer.reason


async def test_a_really_wrong_token_or_chat_is_refused(standin: TelegramStandIn) -> None:
    """A token and a chat that the server does not know are permanent refusals, told apart."""
    other = f"99:{secrets.token_urlsafe(20)}"
    async with courier_to(standin.base_url, token=other) as courier:
        no_token = await courier.deliver("hello")
    async with courier_to(standin.base_url, chat_id="1") as courier:
        no_chat = await courier.deliver("hello")
    assert isinstance(no_token, Refused)
    assert no_token.permanent
    assert "OPS_TELEGRAM_BOT_TOKEN" in no_token.reason
    assert other not in no_token.reason
    assert isinstance(no_chat, Refused)
    assert no_chat.permanent
    assert "OPS_TELEGRAM_CHAT_ID" in no_chat.reason
    assert standin.messages == []


@pytest.mark.parametrize(
    "fault",
    [
        telegram_standin.BAD_GATEWAY,
        Fault(500, "Internal Server Error"),
        telegram_standin.CUT,
        Fault(raw="<html>please log in</html>"),
        Fault(raw='{"ok": true}'),
        Fault(raw='{"ok": true, "result": []}'),
        Fault(raw="[]"),
        Fault(429, "Too Many Requests"),
        Fault(raw=f"no such page: /bot{TOKEN}/sendMessage"),
    ],
    ids=["502", "500", "cut", "portal", "no result", "empty result", "list", "429", "echo"],
)
async def test_what_passes_by_itself_is_refused_without_an_exception(
    standin: TelegramStandIn, courier: TelegramCourier, fault: Fault
) -> None:
    """Server errors, cut connections and answers that are no Bot API's are worth another try."""
    standin.fail(fault)
    answer = await courier.deliver("hello")
    assert isinstance(answer, Refused)
    assert not answer.permanent
    assert answer.retry_after_seconds is None
    assert TOKEN not in answer.reason
    assert await courier.deliver("again") == Receipt("1")


async def test_nobody_listening_is_a_refusal(unused_tcp_port: int) -> None:
    """A Bot API that cannot be reached is a refusal that passes by itself."""
    async with courier_to(f"http://127.0.0.1:{unused_tcp_port}") as courier:
        answer = await courier.deliver("hello")
    assert isinstance(answer, Refused)
    assert not answer.permanent
    assert "cannot be reached" in answer.reason


async def test_one_message_never_takes_longer_than_its_timeout(standin: TelegramStandIn) -> None:
    """A server that does not answer costs the timeout, and the message counts as maybe arrived."""
    standin.fail(Fault(delay_seconds=60))
    async with courier_to(standin.base_url, timeout_seconds=0.2) as courier:
        async with asyncio.timeout(5):
            answer = await courier.deliver("hello")
    assert answer == Refused("Telegram did not answer in time; the message may have arrived")


async def test_a_chat_that_became_a_supergroup_is_followed(
    standin: TelegramStandIn, courier: TelegramCourier, caplog: pytest.LogCaptureFixture
) -> None:
    """When Telegram names a chat's new id, the next message goes there, and the log says so."""
    standin.fail(Fault(migrate_to=-100815))
    standin.chat_id = "-100815"
    answer = await courier.deliver("hello")
    assert isinstance(answer, Refused)
    assert not answer.permanent
    assert await courier.deliver("again") == Receipt("1")
    assert "set OPS_TELEGRAM_CHAT_ID to -100815" in caplog.text


async def test_messages_keep_their_distance(standin: TelegramStandIn) -> None:
    """Messages to one chat are spaced, also when they are handed over at the same moment."""
    async with TelegramCourier(
        TOKEN, CHAT, base_url=standin.base_url, spacing_seconds=0.2
    ) as courier:
        await asyncio.gather(*(courier.deliver(f"number {n}") for n in range(3)))
    moments = [message.received_at for message in standin.messages]
    assert len(moments) == 3
    assert all(later - earlier >= 0.2 for earlier, later in itertools.pairwise(moments))


async def test_the_token_never_reaches_a_log(
    standin: TelegramStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """However loud the libraries are made, no record of any logger holds the token."""
    caplog.set_level(logging.DEBUG)
    for name in TALKATIVE:
        caplog.set_level(logging.DEBUG, logger=name)
    echo = Fault(raw=f"no such page: /bot{TOKEN}/sendMessage")
    standin.fail(telegram_standin.WRONG_TOKEN, telegram_standin.CUT, echo)
    async with courier_to(standin.base_url) as courier:
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.DEBUG)
        answers = [await courier.deliver("hello") for _ in range(4)]
    assert isinstance(answers[-1], Receipt)
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(answers)


async def test_the_libraries_are_quiet_by_themselves(
    standin: TelegramStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """With the root logger at DEBUG, making and using a courier logs nothing of its libraries."""
    caplog.set_level(logging.DEBUG)
    async with courier_to(standin.base_url) as courier:
        await courier.deliver("hello")
    noise = [record for record in caplog.records if record.name.split(".")[0] in TALKATIVE]
    assert noise == []


async def test_the_standin_answers_as_the_bot_api(standin: TelegramStandIn) -> None:
    """The library's own client can ask who it is, edit a message, and be refused as usual."""
    async with Bot(TOKEN, base_url=f"{standin.base_url}/bot") as bot:
        assert (await bot.get_me()).username == "signalpost_bot"
        message = await bot.send_message(CHAT, "first")
        await bot.edit_message_text("second", chat_id=CHAT, message_id=message.message_id)
        assert [kept.text for kept in standin.messages] == ["second"]
        with pytest.raises(BadRequest, match="not modified"):
            await bot.edit_message_text("second", chat_id=CHAT, message_id=message.message_id)
        with pytest.raises(BadRequest, match="not found"):
            await bot.edit_message_text("third", chat_id=CHAT, message_id=99)
        with pytest.raises(BadRequest, match="not found"):
            await bot.edit_message_text("third", chat_id=1, message_id=message.message_id)
        assert (await bot.get_chat(CHAT)).type == "private"
        with pytest.raises(InvalidToken):
            await bot.get_my_commands()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a < b", "nsupported start tag"),
        ("<blink>x</blink>", "nsupported start tag"),
        ("<b>x", "end tag"),
        ("<b>x</i>", "unmatched"),
        ("x</b>", "unmatched"),
        ("x" * 4097, "too long"),
        (" ", "empty"),
    ],
)
async def test_the_standin_refuses_what_telegram_would(
    standin: TelegramStandIn, courier: TelegramCourier, text: str, problem: str
) -> None:
    """Markup that is unknown, stray or unclosed, and texts too long or empty, are refused."""
    answer = await courier.deliver(text)
    assert isinstance(answer, Refused)
    assert problem in answer.reason


async def test_the_standin_can_accept_and_then_fail(
    standin: TelegramStandIn, courier: TelegramCourier
) -> None:
    """A message can arrive although its sender sees a cut connection: the unknown outcome."""
    standin.fail(telegram_standin.CUT_AFTER_ACCEPTING)
    assert isinstance(await courier.deliver("hello"), Refused)
    assert [message.text for message in standin.messages] == ["hello"]


async def test_faults_last_until_they_are_healed(
    standin: TelegramStandIn, courier: TelegramCourier
) -> None:
    """A lasting fault answers every request until it is taken away."""
    standin.fail_until_healed(telegram_standin.BAD_GATEWAY)
    assert all([isinstance(await courier.deliver("hello"), Refused) for _ in range(3)])
    standin.heal()
    assert await courier.deliver("hello") == Receipt("1")


def test_the_standin_runs_beside_blocking_code() -> None:
    """A caller without an event loop gets a stand-in in a thread, and loses it in order."""

    async def send(base_url: str) -> Receipt | Refused:
        async with courier_to(base_url) as courier:
            return await courier.deliver("hello")

    with running_standin(token=TOKEN, chat_id=CHAT) as standin:
        assert asyncio.run(send(standin.base_url)) == Receipt("1")
        assert [method for method, _ in standin.calls] == ["sendMessage"]
    assert isinstance(asyncio.run(send(standin.base_url)), Refused)
