"""`signalpost up` itself is killed: its servers and workers go with it, and come back on its data.

A part of its own after the main one, since `up` runs servers that nobody else may have.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
from sqlalchemy import create_engine

from signalpost.embedded import StackInfo, read_stack
from signalpost.repository.endpoints import NewEndpoint, add_endpoint
from signalpost.secretbox import SecretBox
from signalpost.settings import load_settings
from tests.chaos.plan import Fault
from tests.chaos.run import OPEN, UNSENT
from tests.chaos.stage import ROOT, Kept, Talker, Telegram
from tests.chaos.verdict import Verdict, gather, judge
from tests.processes import Program, signalpost

ENDPOINT = "journal"
APART_SECONDS = 14.0
START_SECONDS = 90.0
SIGNALS = {"kill_up": signal.SIGKILL, "term_up": signal.SIGTERM}


class Upside:
    """A stack run by `up`, with a receiver and a strategy beside it."""

    def __init__(
        self, folder: Path, seed: int, ending: ExitStack, say: Callable[[str], None]
    ) -> None:
        self._folder, self._seed, self._say, self._ending = folder, seed, say, ending
        folder.mkdir()
        self._secret = secrets.token_urlsafe(24)
        receivers = Talker("ledger", str(folder), str(seed), f"{ENDPOINT}={self._secret}")
        ending.callback(receivers.end)
        links = Talker("links", str(folder), f"{ENDPOINT}=127.0.0.1:{receivers.first['port']}")
        ending.callback(links.end)
        self._port = links.first[ENDPOINT]
        receivers.order(authority={ENDPOINT: f"127.0.0.1:{self._port}"})
        self._telegram = Telegram()
        ending.callback(self._telegram.end)
        self._environment = {
            "SIGNALPOST_DATA_DIR": str(folder / "data"),
            "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
            "OUTBOUND_TIMEOUT_SECONDS": "5",
            "RETRY_DELAY_SECONDS": "0.5",
            "MAX_RETRIES": "6",
            "ALERT_WINDOW_SECONDS": "10",
            "OPS_TELEGRAM_BOT_TOKEN": self._telegram.standin.token,
            "OPS_TELEGRAM_CHAT_ID": self._telegram.standin.chat_id,
            "OPS_TELEGRAM_BASE_URL": self._telegram.standin.base_url,
        }
        self.up = Kept("up", self._start, say)
        ending.callback(self.up.end)
        self.up.program.wait_for_line("deliver-1.* ready", START_SECONDS)
        self._add_endpoint()

    def _start(self) -> Program:
        return Program(signalpost("up", "--workers", "1"), env=self._environment, cwd=self._folder)

    def _info(self) -> StackInfo:
        info = read_stack(self._folder / "data")
        assert info is not None
        return info

    def _add_endpoint(self) -> None:
        info = self._info()
        settings = load_settings({**self._environment, "DATABASE_URL": info.database_url})
        url = f"http://127.0.0.1:{self._port}/{ENDPOINT}"
        new = NewEndpoint(ENDPOINT, url, self._secret)
        address = info.database_url.replace("postgresql://", "postgresql+psycopg://", 1)
        engine = create_engine(address)
        with engine.begin() as connection:
            box = SecretBox(info.secret_keys)
            add_endpoint(connection, new, settings, box, actor="chaos")
        engine.dispose()

    def go(self, kinds: list[str], rate: float, since: float) -> list[Fault]:
        """Do each fault once; `since` is the time zero of their times, in Unix seconds."""
        info = self._info()
        seconds = APART_SECONDS * (len(kinds) + 1)
        addresses = {"DATABASE_URL": info.database_url, "REDIS_URL": info.redis_url}
        until = time.monotonic() + seconds

        def start() -> Program:
            argv = [sys.executable, "-m", "tests.chaos.strategy", str(self._folder), "strategy-up"]
            left = max(0.0, until - time.monotonic())
            argv += [str(self._seed), str(rate), str(left)]
            return Program(argv, env=addresses, cwd=ROOT)

        strategy = Kept("strategy-up", start, self._say, always=False)
        self._ending.callback(strategy.end)
        faults = []
        for number, kind in enumerate(kinds):
            time.sleep(APART_SECONDS)
            self._say(kind)
            faults.append(Fault(round(time.time() - since, 2), kind, 0.0, number))
            with suppress(ProcessLookupError):
                os.kill(self.up.program.pid, SIGNALS[kind])
        strategy.ended_well(START_SECONDS + seconds)
        return faults

    def verdict(self, drain_seconds: float) -> Verdict:
        """Wait for the rest, then hold everything together."""
        end = time.time() + drain_seconds
        while time.time() < end and not self._drained():
            time.sleep(0.5)
        messages = {str(message.message_id) for message in self._telegram.standin.messages}
        return judge(gather(self._folder, self._info().database_url), messages)

    def _drained(self) -> bool:
        try:
            with psycopg.connect(self._info().database_url, connect_timeout=3) as connection:
                left = [
                    connection.execute(question.encode()).fetchone() for question in (OPEN, UNSENT)
                ]
        except (OSError, psycopg.Error):
            return False
        return left == [(0,), (0,)]


def go(
    folder: Path, seed: int, kinds: list[str], since: float, say: Callable[[str], None]
) -> tuple[list[Fault], Verdict]:
    """The whole part: start, break, drain, judge."""
    say("`signalpost up` and its death")
    chance = random.Random(f"{seed}:up")
    chance.shuffle(kinds)
    with ExitStack() as ending:
        upside = Upside(folder, seed, ending, say)
        faults = upside.go(kinds, rate=4.0, since=since)
        return faults, upside.verdict(drain_seconds=120.0)
