"""The demo's stage: its processes set up in order, looked at from outside, cleared away again."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from uuid import uuid4

import httpx

from signalpost.database import migrate, password_free, sync_engine
from signalpost.demo.calls import read_calls
from signalpost.demo.crosscheck import Witnesses, disagreements
from signalpost.demo.ledger import Receipt, read_ledger
from signalpost.demo.privacy import Needles
from signalpost.demo.processes import Child, start_receiver
from signalpost.demo.progress import Progress
from signalpost.demo.receiver_process import LEDGER
from signalpost.demo.redis_tap import RedisTap, left_in_redis
from signalpost.demo.report import Result
from signalpost.demo.scenario import (
    CHAT_ID,
    DESK,
    FARAWAY,
    JOURNAL,
    Scenario,
    environment_of,
    strategy_script,
)
from signalpost.demo.searching import search_everything, tasks_in_flower
from signalpost.demo.telegram_standin import Message, running_standin
from signalpost.demo.workers import DELIVER_WORKERS, start_workers
from signalpost.embedded import Ending, Stack
from signalpost.errors import SignalpostError
from signalpost.repository.endpoints import add_endpoint
from signalpost.repository.evidence import Evidence, bodies, gather
from signalpost.repository.overview import overview
from signalpost.secretbox import SecretBox
from signalpost.settings import load_settings
from signalpost.settings.datafolder import STACK_FILE

__all__ = ["Stage"]

READY_SECONDS = 60.0


class Stage:
    """Everything that runs in the demo; ``ending`` gets how each part is ended, in reverse."""

    def __init__(
        self, scenario: Scenario, folder: Path, progress: Progress, ending: ExitStack
    ) -> None:
        self._scenario = scenario
        self._folder = folder
        self._logs = folder / "logs"
        self._progress = progress
        self._ending = ending

    def set_up(self) -> None:
        """Start everything, the strategy last.

        Raises:
            SignalpostError: a part did not start.
        """
        scenario, tell = self._scenario, self._progress.tell
        self._telegram = self._ending.enter_context(
            running_standin(token=scenario.telegram_token, chat_id=CHAT_ID)
        )
        tell(f"a stand-in of the Telegram Bot API listens on {self._telegram.base_url}")
        self._start_servers()
        self._settings = scenario.settings(self._folder, self._telegram.base_url)
        self._start_receiver()
        self._add_endpoints()
        self._start_workers()
        self._forge_a_request()
        tell(
            f"retry schedule, shortened for the demo: after {scenario.schedule()} s "
            "(by default after 5, 10, 20, 40, 80 s)"
        )
        self._start_strategy()

    def strategy_ended(self) -> bool:
        """Whether the strategy process has ended.

        Raises:
            SignalpostError: it failed.
        """
        code = self._strategy.poll()
        if code:
            raise SignalpostError(f"the strategy failed with exit code {code} (see {self._logs})")
        return code == 0

    def look(self) -> tuple[Evidence, list[Receipt], list[Message]]:
        """Read the database, the receiver's ledger and the messages as they are now."""
        with self._engine.begin() as connection:
            evidence = gather(connection)
        return evidence, read_ledger(self._folder / LEDGER), list(self._telegram.messages)

    def result(self) -> Result:
        """Hold both sides against each other, and search what was written outside the database."""
        evidence, ledger, messages = self.look()
        called = read_calls(self._calls)
        witnesses = Witnesses(
            called=called,
            ledger=ledger,
            heard={DESK, JOURNAL},
            forged=1,
            alert_receipts={str(message.message_id) for message in messages},
        )
        found = disagreements(evidence, witnesses)
        info = self._stack.info
        with self._engine.begin() as connection:
            needles = Needles(self._secrets(), bodies(connection))
        searched = search_everything(
            needles,
            logs=self._logs,
            redis_heard=self._tap.content(),
            redis_left=left_in_redis(info.redis_url),
            tasks=tasks_in_flower(info.flower_url, info.flower_user, info.flower_password),
            alerts=[message.text for message in messages],
        )
        alerts = [message.plain for message in messages]
        return Result(evidence, called, ledger, alerts, found, searched, self._progress.seconds)

    def addresses(self) -> dict[str, str]:
        """Where to look while everything stays up."""
        info = self._stack.info
        return {
            "Flower": f"{info.flower_url} (user {info.flower_user})",
            "database": password_free(info.database_url),
            "Redis": password_free(info.redis_url),
            "passwords": str(self._folder / STACK_FILE),
            "logs": str(self._logs),
            "see": f"signalpost status --data {self._folder}",
            "": f"signalpost deliveries list --data {self._folder}",
        }

    def _secrets(self) -> dict[str, str]:
        info = self._stack.info
        keys = {f"secret key {number}": key for number, key in enumerate(info.secret_keys)}
        endpoints = self._scenario.endpoint_secrets.items()
        return {
            **{f"secret of {name}": secret.removeprefix("whsec_") for name, secret in endpoints},
            **keys,
            "Telegram token": self._scenario.telegram_token,
            "database password": self._stack.credentials.postgres_password,
            "Redis password": self._stack.credentials.redis_password,
            "Flower password": info.flower_password,
        }

    def _start_servers(self) -> None:
        self._stack = Stack.start(self._folder, say=self._progress.tell)
        self._ending.callback(self._stack.stop)
        info = self._stack.info
        self._tap = self._ending.enter_context(RedisTap(info.redis_url))
        migrate(info.database_url)
        self._engine = sync_engine(info.database_url, pool_size=1)
        self._ending.callback(self._engine.dispose)
        self._progress.tell(
            f"PostgreSQL and Redis run in {self._folder}; nothing of this machine's is used"
        )

    def _environment(self) -> dict[str, str]:
        marks = self._stack.marks(Ending())
        return environment_of(os.environ, {**self._settings, **marks})

    def _start_receiver(self) -> None:
        receiver, self._port = start_receiver(
            self._folder,
            self._scenario.receiver_plan().to_json(),
            environment=self._environment(),
            log=self._logs / "receiver.log",
        )
        self._ending.callback(receiver.end)
        self._progress.tell(f"the receiver, a process of its own, listens on port {self._port}")

    def _add_endpoints(self) -> None:
        # Bound, never listening: a closed port that nobody else can open meanwhile.
        closed = self._ending.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        settings = load_settings(self._settings, data_folder=self._folder)
        box = SecretBox(settings.secret_keys)
        with self._engine.begin() as connection:
            for new in self._scenario.endpoints(self._port, closed.getsockname()[1]):
                add_endpoint(connection, new, settings, box, actor="demo")
        self._progress.tell(
            f"endpoints: {DESK} (will fail for {self._scenario.fail_seconds:g} s, and refuse one "
            f"signal for good), {JOURNAL} (healthy), {FARAWAY} (nothing listens there)"
        )

    def _start_workers(self) -> None:
        names = start_workers(
            self._stack, self._settings, log=self._logs / "workers.log", ending=self._ending
        )
        self._wait("the deliver workers", self._workers_ready)
        self._wait("Flower", self._flower_ready)
        self._progress.tell(f"workers: {', '.join(names)}")

    def _workers_ready(self) -> bool:
        with self._engine.begin() as connection:
            found = overview(connection).workers
        return sum(worker.alive for worker in found) >= DELIVER_WORKERS

    def _flower_ready(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self._stack.info.flower_url}/healthcheck").status_code == 200
        return False

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            if time.monotonic() > deadline:
                raise SignalpostError(
                    f"{what} did not start within {READY_SECONDS:.0f} s (see {self._logs})"
                )
            self._progress.show(f"waiting for {what}")
            time.sleep(0.1)

    def _forge_a_request(self) -> None:
        """Post something that looks like a delivery, signed by nobody."""
        headers = {"X-Idempotency-Key": str(uuid4()), "X-Producer-Id": "somebody-else"}
        url = f"http://127.0.0.1:{self._port}/{DESK}"
        httpx.post(url, headers=headers, json={"instrument": "AAPL", "side": "sell"})

    def _start_strategy(self) -> None:
        script = strategy_script()
        self._calls = self._logs / "strategy.log"
        pace = f"--days-per-second={self._scenario.days_per_second:g}"
        routes = [f"--to={DESK}", f"--to={JOURNAL}", f"--strong-to={FARAWAY}"]
        self._strategy = Child(
            [sys.executable, str(script), pace, f"--data={self._folder}", *routes],
            environment=self._environment(),
            log=self._logs / "strategy-errors.log",
            output=self._calls,
        )
        self._ending.callback(self._strategy.end)
        self._progress.tell(
            f"the strategy, a process of its own, replays daily prices at "
            f"{self._scenario.days_per_second:g} days a second"
        )
