"""What a run stands on: servers on loopback, the receiver, and one system on them at a time."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql
from redis import Redis

from signalpost.embedded.marks import Ending
from signalpost.embedded.postgres import PostgresServer
from signalpost.embedded.valkey import ValkeyServer
from signalpost.secretbox import SecretBox
from tests import stack
from tests.bench import feeding, gauging, installing, ours
from tests.bench.receiving import Receiver
from tests.bench.systems import SYSTEMS, System
from tests.databases import with_database
from tests.processes import Program, clean_environment

__all__ = ["Ground", "Stuck", "Visit", "ground"]

ROOT = Path(__file__).parents[2]
VENVS = Path("build") / "bench" / "venvs"


class Stuck(Exception):
    """A system did not do its work in time."""


@dataclass
class Ground:
    """PostgreSQL with fsync on, valkey, the receiver."""

    postgres: PostgresServer
    valkey: ValkeyServer
    receiver: Receiver
    dead_port: int
    environment: dict[str, str]
    say: Callable[[str], None]
    pythons: dict[str, Path] = field(default_factory=dict)

    def python(self, system: System) -> Path | None:
        """The interpreter of the system's environment; None for our own."""
        if system.pins is None:
            return None
        if system.pins not in self.pythons:
            self.pythons[system.pins] = installing.installed(system.pins, VENVS, self.say)
        return self.pythons[system.pins]

    def environment_for(self, system: System) -> dict[str, str]:
        """With a database and a part of Redis of its own."""
        name = f"bench_{system.key}"
        number = 1 + SYSTEMS.index(system)
        with psycopg.connect(self.postgres.url("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if known.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        database_url = with_database(self.postgres.url(), name)
        redis_url = self.valkey.url(number)
        return {
            **self.environment,
            **system.environment,
            feeding.DATABASE: database_url,
            feeding.REDIS: redis_url,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
        }


@contextmanager
def ground(say: Callable[[str], None]) -> Iterator[Ground]:
    """Start all of it; at the end nothing is left."""
    key = SecretBox.new_key()
    environment = {
        "PYTHONPATH": str(ROOT),
        "BENCH_SECRET": secrets.token_urlsafe(24),
        "SECRET_KEYS": key,
        "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
        ours.SEALED: SecretBox([key]).encrypt(secrets.token_urlsafe(24).encode()).hex(),
    }
    with tempfile.TemporaryDirectory(prefix="signalpost-bench-") as name, ExitStack() as ending:
        ending.callback(stack.stop_all)
        postgres = stack.postgres_in(Path(name), durable=True)
        valkey = stack.redis_in(Path(name), durable=True)
        receiver = Receiver()
        ending.callback(receiver.close)
        yield Ground(postgres, valkey, receiver, _closed_port(ending), environment, say)


def _closed_port(ending: ExitStack) -> int:
    """A port that refuses connections as long as the run lasts: bound, and never listened on."""
    import socket  # noqa: PLC0415 - for these lines only

    door = ending.enter_context(socket.socket())
    door.bind(("127.0.0.1", 0))
    port: int = door.getsockname()[1]
    return port


class Visit:
    """One system at work: its workers and its feeder, ended at the end of the block."""

    def __init__(self, ground: Ground, system: System) -> None:
        self.ground, self.system, self.receiver = ground, system, ground.receiver
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        python = self.ground.python(self.system)
        environment = self.ground.environment_for(self.system)
        with ExitStack() as ending:
            self.environment = environment
            with Redis.from_url(environment["REDIS_URL"]) as redis:
                # What the workers of an earlier visit left unacknowledged would be waited for.
                redis.flushdb()
            self._feeder = ending.enter_context(Feeder(self.system.feeder(python), environment))
            self.feed("clear", urls=[])
            argv = self.system.command(python)
            programs = [
                ending.enter_context(Program(argv, env=environment, grace_seconds=5))
                for _ in range(self.system.copies)
            ]
            self.pids = [program.pid for program in programs]
            # A stopped process would never see that it is told to end.
            ending.callback(self.go)
            for program in programs:
                for _ in range(self.system.ready_lines):
                    seen = 0
                    program.wait_for_line(self.system.ready, 60, after=seen)
                    seen = len(program.lines)
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def feed(self, what: str, **facts: Any) -> Any:
        """Ask the feeder."""
        return self._feeder.ask({"do": what, **facts})

    def feeders(self, count: int, urls: Sequence[str]) -> list[Feeder]:
        """More feeders, which know these receivers; they end with the visit."""
        argv = self.system.feeder(self.ground.python(self.system))
        more = [self._ending.enter_context(Feeder(argv, self.environment)) for _ in range(count)]
        for feeder in more:
            feeder.ask({"do": "adopt", "urls": list(urls)})
        return more

    def clear(self, urls: Sequence[str]) -> None:
        """Begin a case."""
        self.feed("clear", urls=list(dict.fromkeys(urls)))
        self.receiver.clear()

    def halt(self) -> None:
        """Let the workers stand still."""
        gauging.send(self.pids, signal.SIGSTOP)

    def go(self) -> None:
        """Let them go on."""
        gauging.send(self.pids, signal.SIGCONT)

    def wait_received(self, count: int, seconds: float) -> None:
        """Until so many have arrived."""
        self._wait(lambda: self.receiver.count() >= count, seconds)

    def wait_seen(self, ids: Sequence[str], seconds: float) -> None:
        """Until each of these deliveries has arrived."""
        self._wait(lambda: self.receiver.seen().keys() >= set(ids), seconds)

    def wait_recorded(self, left: int, seconds: float) -> None:
        """Until no more than so many are waiting or under way."""
        self._wait(lambda: self.feed("left") <= left, seconds)

    def _wait(self, done: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                received, left = self.receiver.count(), self.feed("left")
                raise Stuck(
                    f"{self.system.label}: {received} received, {left} left after {seconds:g} s"
                )
            time.sleep(0.01)

    def cpu(self) -> tuple[float, float, float]:
        """Processor seconds so far of the workers, of PostgreSQL and of Redis."""
        assert self.ground.postgres.process is not None
        assert self.ground.valkey.process is not None
        servers = (self.ground.postgres.process.pid, self.ground.valkey.process.pid)
        return (
            gauging.cpu_seconds(self.pids),
            gauging.cpu_seconds(servers[:1]),
            gauging.cpu_seconds(servers[1:]),
        )

    def mebibytes(self) -> float:
        """Memory of the workers."""
        return gauging.mebibytes(self.pids)


class Feeder:
    """A feeder process, asked one thing at a time."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str]) -> None:
        marks = stack.warden().marks(Ending())
        self._process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**clean_environment(), **environment, **marks},
            start_new_session=True,
            text=True,
        )

    def ask(self, what: dict[str, Any]) -> Any:
        """Ask, and wait for the answer."""
        self.begin(what)
        return self.answer()

    def begin(self, what: dict[str, Any]) -> None:
        """Ask; `answer` waits for what comes of it."""
        assert self._process.stdin is not None
        print(json.dumps(what), file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        """What came of the last thing asked."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Stuck(f"the feeder ended: {self._process.args!r}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
