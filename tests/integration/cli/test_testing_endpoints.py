from __future__ import annotations

import asyncio
import json
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import Engine, text

from signalpost.core.signing import Profile, verify
from signalpost.core.testsignal import TEST_BODY
from signalpost.errors import SignatureError
from tests import receivers
from tests.integration.cli.operators import Operator, Result


async def run(operator: Operator, *words: str, **more: str) -> Result:
    """Run a command beside the receiver that lives in this loop."""
    return await asyncio.to_thread(operator.run, *words, **more)


async def added(operator: Operator, url: str) -> str:
    """An endpoint named desk with this URL; its secret."""
    result = await run(operator, "endpoint", "add", "desk", url, "--json")
    secret: str = json.loads(result.stdout)["secret"]
    return secret


async def test_a_test_arrives_signed_and_leaves_nothing_behind(
    operator: Operator, engine: Engine
) -> None:
    """What arrives is the test's body under a good signature; no delivery, signal or attempt."""
    async with receivers.receiver(receivers.status(422)) as receiver:
        secret = await added(operator, receiver.url)
        result = await run(operator, "endpoint", "test", "desk")
        as_json = json.loads((await run(operator, "endpoint", "test", "desk", "--json")).stdout)

    assert result.exit_code == 0, result.stderr
    assert "refused it, as it should" in result.stdout
    assert (as_json["state"], as_json["status_code"], as_json["phase"]) == ("ok", 422, "body")
    first, second = receiver.seen
    assert first.delivery_id != second.delivery_id
    for profile in Profile:
        verify(
            method="POST",
            headers=first.headers,
            body=first.body,
            url=receiver.url,
            secrets=[secret],
            profile=profile,
            now=datetime.now(UTC),
        )
    assert first.body == TEST_BODY
    with engine.connect() as conn:
        for table in ("signals", "deliveries", "attempts", "alerts"):
            assert conn.scalar(text(f"SELECT count(*) FROM signalpost.{table}")) == 0
    assert secret not in result.output


async def test_a_test_is_signed_with_both_secrets_while_they_rotate(operator: Operator) -> None:
    """While it rotates a test is signed as a delivery is, or on request by the new one alone."""
    async with receivers.receiver() as receiver:
        old = await added(operator, receiver.url)
        rotated = await run(operator, "endpoint", "rotate-secret", "desk", "--json")
        await run(operator, "endpoint", "test", "desk")
        await run(operator, "endpoint", "test", "desk", "--new")

    new = json.loads(rotated.stdout)["secret"]
    both, one = receiver.seen
    for seen, secret in ((both, old), (both, new), (one, new)):
        check(seen, receiver.url, secret)
    with pytest.raises(SignatureError):
        check(one, receiver.url, old)


def check(seen: receivers.Seen, url: str, secret: str) -> None:
    """Verify as a receiver that holds this secret alone."""
    verify(
        method="POST",
        headers=seen.headers,
        body=seen.body,
        url=url,
        secrets=[secret],
        now=datetime.now(UTC),
    )


@pytest.mark.parametrize(
    ("code", "exit_code", "told"),
    [(401, 1, "does not accept the signature"), (302, 1, "redirects"), (201, 0, "takes anything")],
)
async def test_the_answer_is_explained(
    operator: Operator, code: int, exit_code: int, told: str
) -> None:
    """A receiver that would not take deliveries makes the exit code 1, and the line says why."""
    async with receivers.receiver(receivers.status(code)) as receiver:
        await added(operator, receiver.url)
        result = await run(operator, "endpoint", "test", "desk")

    assert result.exit_code == exit_code
    assert told in result.stdout


async def test_a_receiver_s_own_words_are_not_printed(operator: Operator) -> None:
    """The answer's body may quote anything; only its status and its meaning are shown."""

    async def chatty(_: Any) -> web.Response:
        return web.Response(status=500, text="the account is 12345 \x1b[2J")

    async with receivers.receiver(chatty) as receiver:
        await added(operator, receiver.url)
        result = await run(operator, "endpoint", "test", "desk")

    assert "12345" not in result.output


def test_a_receiver_that_is_not_there_is_told(operator: Operator) -> None:
    """No answer at all is a failure with its phase, in good time."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        operator.run("endpoint", "add", "desk", f"http://127.0.0.1:{port}/in")
        result = operator.run("endpoint", "test", "desk")

    assert result.exit_code == 1
    assert "it cannot be reached (connection refused)" in result.stdout
    assert "connect" in result.stdout


def test_without_keys_nothing_is_posted(operator: Operator, endpoint: str) -> None:
    """A secret that cannot be read is one line and exit code 1."""
    result = operator.run("endpoint", "test", "desk", SECRET_KEYS="")

    assert result.exit_code == 1
    assert "SECRET_KEYS is not set" in result.stderr.splitlines()[-1]
    assert endpoint not in result.output
