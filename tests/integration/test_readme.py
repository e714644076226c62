"""The README's lines for producers and receivers work as they stand there."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from sqlalchemy import Engine

from signalpost.receiver import Receiver
from signalpost.repository.endpoints import NewEndpoint, add_endpoint, new_secret
from signalpost.repository.evidence import bodies, gather
from signalpost.secretbox import SecretBox
from signalpost.settings import load_settings
from tests.pages import python_block

PRODUCERS = python_block("README.md", "from signalpost import Producer")
RECEIVERS = python_block("README.md", "import os")


@pytest.fixture
def outbox(
    engine: Engine, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Engine:
    """An outbox with one endpoint, which this process's environment points to."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)
    settings = load_settings({"DATABASE_URL": database_url})
    box = SecretBox([SecretBox.new_key()])
    new = NewEndpoint("desk", "https://desk.example/signals", new_secret())
    with engine.begin() as connection:
        add_endpoint(connection, new, settings, box, actor="test")
    return engine


def test_the_producers_lines_enqueue(outbox: Engine, tmp_path: Path) -> None:
    """The producer's lines of the README, run as they stand, put one delivery into the outbox."""
    script = tmp_path / "lines.py"
    script.write_text(PRODUCERS)

    runpy.run_path(str(script))
    runpy.run_path(str(script))

    with outbox.begin() as connection:
        [body] = bodies(connection)
        [delivery] = gather(connection).deliveries
    assert b'"entry_price":189.50,' in body
    assert (delivery.endpoint, delivery.status) == ("desk", "pending")


def test_the_producers_lines_are_five() -> None:
    """The heading says five lines, and so many are there."""
    lines = [line for line in PRODUCERS.splitlines() if line.strip()]

    assert len(lines) == 5


def test_the_receivers_lines_make_a_receiver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver's lines of the README, run as they stand, make an ASGI app of the kit."""
    monkeypatch.setenv("SIGNALPOST_SECRET", new_secret())
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "lines.py"
    script.write_text(RECEIVERS)

    app = runpy.run_path(str(script))["app"]

    assert isinstance(app, Receiver)
    assert (tmp_path / "received.sqlite").exists()
    app._book.close()
