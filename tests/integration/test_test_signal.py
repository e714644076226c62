from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from signalpost.core.signing import Profile
from signalpost.core.testsignal import TEST_ANSWER, TEST_BODY, sign_test
from signalpost.receiver import Received, Receiver, SqliteBook, Verdict

SECRET = "correct horse battery staple"
URL = "https://desk.example/hooks/signals"
NOW = datetime(2026, 3, 2, 12, 0, 0, 250000, UTC)


async def post(app: Any, secret: str) -> httpx.Response:
    headers = sign_test(
        URL,
        keys=[secret.encode()],
        key_ids=["desk:1"],
        producer_id="tests",
        delivery_id=str(uuid4()),
        timestamp=NOW,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        return await client.post(URL, content=TEST_BODY, headers=headers)


@pytest.mark.parametrize("profile", list(Profile))
async def test_the_kit_answers_a_test_without_any_effect(tmp_path: Path, profile: Profile) -> None:
    """A test is answered 200 where it verifies and 401 else: no handler runs, no key is kept."""
    acted: list[Received] = []
    file = tmp_path / "book.sqlite"
    book = SqliteBook(file)

    def handler(_: sqlite3.Connection, received: Received) -> None:
        acted.append(received)

    app = Receiver(
        secrets=[SECRET],
        public_url=URL,
        book=book,
        handler=handler,
        profile=profile,
        clock=lambda: NOW,
    )
    good, again = await post(app, SECRET), await post(app, SECRET)
    forged = await post(app, "a secret of somebody else")
    book.close()

    assert [good.status_code, again.status_code, forged.status_code] == [200, 200, 401]
    assert good.json()["message"] == TEST_ANSWER
    assert good.json()["signal_id"] is None
    assert app.counts == {Verdict.TEST: 2, Verdict.UNVERIFIED: 1}
    assert acted == []
    with sqlite3.connect(file) as kept:
        dump = "\n".join(kept.iterdump())
    assert "INSERT" not in dump
