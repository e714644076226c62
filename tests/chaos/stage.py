"""The real stack, every part a process that can be killed: servers, workers, receivers, strategies.

The stage keeps worker processes running as a service manager would: what dies is started again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
from sqlalchemy import create_engine, text

from signalpost.cli.roles import celery_argv
from signalpost.database import migrate
from signalpost.demo.telegram_standin import TelegramStandIn
from signalpost.repository.endpoints import NewEndpoint, add_endpoint
from signalpost.secretbox import SecretBox
from signalpost.settings import load_settings
from tests import stack
from tests.chaos.operator import Operator
from tests.chaos.plan import CLOCK, ENDPOINTS, ORDERED
from tests.processes import Program, clean_environment, signalpost

ROOT = Path(__file__).parents[2]
AGAIN_SECONDS = 0.5


class Kept:
    """A process that is started again when it ends, until the stage ends.

    One that is not kept `always` may end well by itself.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Program],
        say: Callable[[str], None],
        *,
        always: bool = True,
    ) -> None:
        self.name = name
        self._start = start
        self._say = say
        self._always = always
        self._ending = threading.Event()
        self.lines: list[str] = []
        self.program = start()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def _keep(self) -> None:
        while True:
            code = self.program.process.wait()
            self.lines += self.program.lines
            if code == 0 and not self._always:
                return
            if self._ending.wait(AGAIN_SECONDS):
                return
            last = "" if code < 0 or not self.program.lines else f": {self.program.lines[-1]}"
            self._say(f"{self.name} ended with {code} and is started again{last}")
            self.program = self._start()

    def ended_well(self, seconds: float) -> bool:
        """Wait for its own end."""
        self._keeper.join(seconds)
        return not self._keeper.is_alive()

    def end(self) -> None:
        """End it for good."""
        self._ending.set()
        with suppress(ProcessLookupError):
            os.kill(self.program.pid, signal.SIGCONT)
        self.program.end()
        self._keeper.join(5)


class Talker:
    """A helper process that takes JSON orders and answers each with a line."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tests.chaos.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(),
            cwd=ROOT,
            text=True,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self.first = json.loads(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def order(self, **order: Any) -> None:
        """Hand over an order and wait until it is carried out."""
        assert self.process.stdin is not None
        with self._lock:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            self._line()

    def end(self) -> None:
        """End of orders ends it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Telegram:
    """The Bot API's stand-in in a loop of its own thread."""

    def __init__(self) -> None:
        self.standin = TelegramStandIn(token=f"1:{secrets.token_urlsafe(24)}", chat_id="77")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.standin.__aenter__(), self._loop).result(10)

    def end(self) -> None:
        leave = self.standin.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(leave, self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Stage:
    """Everything that runs; `ending` gets how each part is ended."""

    def __init__(
        self, folder: Path, seed: int, ending: ExitStack, say: Callable[[str], None]
    ) -> None:
        self.folder, self.seed, self.say = folder, seed, say
        self.chance = random.Random(f"{seed}:stage")
        self._ending = ending
        self.postgres = stack.postgres_in(folder, durable=True)
        self.redis = stack.redis_in(folder, durable=True)
        ending.callback(stack.stop_all)
        migrate(self.postgres.url())
        self.secrets = {name: secrets.token_urlsafe(24) for name in ENDPOINTS}
        self.receivers = Talker(
            "ledger", str(folder), str(seed), *(f"{n}={s}" for n, s in self.secrets.items())
        )
        ending.callback(self.receivers.end)
        self._link_up()
        self.telegram = Telegram()
        ending.callback(self.telegram.end)
        self._environment = self._settings()
        self._add_endpoints()
        self.workers: dict[str, Kept] = {}
        self.strategies: dict[str, Kept] = {}

    def _link_up(self) -> None:
        port = self.receivers.first["port"]
        targets = {
            "postgres": urlsplit(self.postgres.url()).netloc.rpartition("@")[2],
            "redis": urlsplit(self.redis.url()).netloc.rpartition("@")[2],
            # The strategies' own, so that they can be hit in the middle of a call.
            "strategy_postgres": urlsplit(self.postgres.url()).netloc.rpartition("@")[2],
            "strategy_redis": urlsplit(self.redis.url()).netloc.rpartition("@")[2],
            **dict.fromkeys(ENDPOINTS, f"127.0.0.1:{port}"),
        }
        self.links = Talker("links", str(self.folder), *(f"{n}={t}" for n, t in targets.items()))
        self._ending.callback(self.links.end)
        self.ports: dict[str, int] = self.links.first
        authority = {name: f"127.0.0.1:{self.ports[name]}" for name in ENDPOINTS}
        self.receivers.order(authority=authority)

    def _by_link(self, url: str, name: str) -> str:
        parts = urlsplit(url)
        user, _, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}@127.0.0.1:{self.ports[name]}").geturl()

    def _settings(self) -> Mapping[str, str]:
        return {
            "DATABASE_URL": self._by_link(self.postgres.url(), "postgres"),
            "REDIS_URL": self._by_link(self.redis.url(), "redis"),
            "SECRET_KEYS": SecretBox.new_key(),
            "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
            "OUTBOUND_TIMEOUT_SECONDS": "5",
            "RETRY_DELAY_SECONDS": "0.5",
            "MAX_RETRIES": "6",
            "ALERT_WINDOW_SECONDS": "10",
            "OPS_TELEGRAM_BOT_TOKEN": self.telegram.standin.token,
            "OPS_TELEGRAM_CHAT_ID": self.telegram.standin.chat_id,
            "OPS_TELEGRAM_BASE_URL": self.telegram.standin.base_url,
        }

    def _add_endpoints(self) -> None:
        settings = load_settings(self._environment)
        box = SecretBox(settings.secret_keys)
        url = self.postgres.url().replace("postgresql://", "postgresql+psycopg://", 1)
        engine = create_engine(url)
        with engine.begin() as connection:
            for name in ENDPOINTS:
                target = f"http://127.0.0.1:{self.ports[name]}/{name}"
                new = NewEndpoint(name, target, self.secrets[name])
                add_endpoint(connection, new, settings, box, actor="chaos")
            for name in ORDERED:
                connection.execute(
                    text("UPDATE signalpost.endpoints SET ordered = true WHERE name = :name"),
                    {"name": name},
                )
        engine.dispose()

    def start_workers(self, deliver: int) -> None:
        """Start the roles, and wait until they take messages."""
        roles = {f"deliver-{number}": "deliver" for number in range(1, deliver + 1)}
        for name, role in {**roles, "ops": "ops", "beat": "beat"}.items():
            self.workers[name] = Kept(name, partial(self._worker, name, role), self.say)
        self._ending.callback(self._end, self.workers)
        for name, kept in self.workers.items():
            if name != "beat":
                kept.program.wait_for_line(" ready", 60)

    def _worker(self, name: str, role: str) -> Program:
        if role != "deliver":
            return Program(signalpost("worker", "--role", role), env=self._environment)
        argv = celery_argv("deliver", name=f"{name}-{secrets.token_hex(3)}")
        argv[argv.index("-A") + 1] = "tests.chaos.skewed"
        return Program(argv, env={**self._environment, CLOCK: str(self.folder / CLOCK)}, cwd=ROOT)

    def _end(self, kept: Mapping[str, Kept]) -> None:
        """All at once, since each may take its grace."""
        threads = [threading.Thread(target=one.end) for one in kept.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def start_operator(self) -> Operator:
        """A person who cancels, pauses and resumes; whoever starts it ends it too."""
        return Operator(self.folder, self.seed, self.postgres.url())

    def start_strategies(self, count: int, seconds: float, rate: float) -> None:
        """Start the producers; a killed one comes back and goes on to the same end."""
        until = time.monotonic() + seconds
        own = {
            "DATABASE_URL": self._by_link(self.postgres.url(), "strategy_postgres"),
            "REDIS_URL": self._by_link(self.redis.url(), "strategy_redis"),
        }
        for number in range(count):
            name = f"strategy-{number}"

            def start(name: str = name) -> Program:
                left = max(0.0, until - time.monotonic())
                argv = [sys.executable, "-m", "tests.chaos.strategy", str(self.folder), name]
                argv += [str(self.seed), str(rate / count), str(left)]
                return Program(argv, env={**self._environment, **own}, cwd=ROOT)

            self.strategies[name] = Kept(name, start, self.say, always=False)
        self._ending.callback(self._end, self.strategies)

    def strategies_ended(self, seconds: float) -> bool:
        """Wait until each has finished; a last start enqueues what a late kill left over."""
        return all(kept.ended_well(seconds) for kept in self.strategies.values())

    def roll(self) -> threading.Thread:
        """Start a new deliver worker for each, and end the old one in order once that is ready."""

        def one_by_one() -> None:
            for name in sorted(name for name in self.workers if "deliver" in name):
                old = self.workers[name]
                new = Kept(name, partial(self._worker, name, "deliver"), self.say)
                new.program.wait_for_line(" ready", 60)
                self.workers[name] = new
                old.end()
                new.lines = [*old.lines, *old.program.lines, *new.lines]

        thread = threading.Thread(target=one_by_one, daemon=True)
        thread.start()
        return thread

    def keep_logs(self) -> None:
        """Write what each process said into the folder."""
        for name, kept in {**self.workers, **self.strategies}.items():
            (self.folder / f"{name}.log").write_text("\n".join([*kept.lines, *kept.program.lines]))

    def delivering(self) -> Kept:
        """One of the deliver workers."""
        return self.workers[self.chance.choice(sorted(n for n in self.workers if "deliver" in n))]

    def admin(self) -> psycopg.Connection:
        """A connection past the links, not bound by read-only."""
        return psycopg.connect(
            self.postgres.url(),
            autocommit=True,
            connect_timeout=5,
            options="-c default_transaction_read_only=off",
        )

    def redis_client(self) -> redis.Redis:
        """A client past the links."""
        return redis.Redis.from_url(self.redis.url(), socket_timeout=5)

    def lose_redis(self, *, keep_data: bool) -> None:
        """Kill -9 of Redis."""
        process = self.redis.process
        assert process is not None
        process.kill()
        process.wait()
        if not keep_data:
            shutil.rmtree(self.redis.folder)

    def stop_postgres(self, number: signal.Signals) -> None:
        """Fast (SIGINT), immediate (SIGQUIT), or a crash (SIGKILL of the postmaster)."""
        process = self.postgres.process
        assert process is not None
        process.send_signal(number)
        process.wait()
