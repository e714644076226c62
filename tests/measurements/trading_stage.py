"""What the trading runs stand on: real servers, worker processes, and a receiver with its own log.

The receiver is a process of its own. It answers by the first part of the path, and keeps for every
request when its first byte came, what was asked and what was answered; the log is handed over when
asked for, so nothing of signalpost's is believed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from signalpost import Producer, Signal
from signalpost.database import migrate, sync_engine
from signalpost_worker import collector
from tests import rows, stack
from tests.engines import KEY, SEALED
from tests.processes import Program, free_ports, signalpost

SLOW_SECONDS = 25.0
FLAP_SECONDS = 3.0
FAILING = 0.2
SAY_SECONDS = 10.0
_REASONS = {201: b"Created", 503: b"Service Unavailable"}


class Broken(Exception):
    """A promise that was not kept."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request as the receiver saw it; times are wall-clock seconds of this machine."""

    first_byte_at: float
    answered_at: float
    path: str
    delivery_id: str
    body: bytes
    status: int
    sequence: int | None
    expires_at: float | None


class _Answering(asyncio.Protocol):
    """Reads one request after the other, and answers as its path says."""

    log: list[Entry] = []  # noqa: RUF012 - one receiver a process
    chance = random.Random(20)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.held = b""
        self.first_byte_at = 0.0

    def data_received(self, data: bytes) -> None:
        if not self.held:
            self.first_byte_at = time.time()
        self.held += data
        head, found, body = self.held.partition(b"\r\n\r\n")
        if not found:
            return
        line, *rest = head.split(b"\r\n")
        headers = {name.lower(): value for name, value in (one.split(b": ", 1) for one in rest)}
        if len(body) < int(headers[b"content-length"]):
            return
        self.held = b""
        path = line.split(b" ")[1].decode()
        status, wait = self._decide(path)
        seen = (self.first_byte_at, path, headers, body, status)
        if wait:
            asyncio.get_running_loop().call_later(wait, self._answer, *seen)
        else:
            self._answer(*seen)

    def _decide(self, path: str) -> tuple[int, float]:
        kind = path.strip("/").partition("-")[0]
        if kind == "slow":
            return 201, SLOW_SECONDS
        if kind == "flapping":
            return (503 if time.time() % (2 * FLAP_SECONDS) < FLAP_SECONDS else 201), 0.0
        if kind == "failing":
            return (503 if self.chance.random() < FAILING else 201), 0.0
        return 201, 0.0

    def _answer(
        self, first: float, path: str, headers: dict[bytes, bytes], body: bytes, status: int
    ) -> None:
        sequence = headers.get(b"x-signalpost-sequence")
        expires = headers.get(b"x-signalpost-expires-at", b"").decode()
        known = expires[:1].isdigit()
        self.log.append(
            Entry(
                first,
                time.time(),
                path,
                headers[b"x-idempotency-key"].decode(),
                body,
                status,
                None if sequence is None else int(sequence),
                datetime.fromisoformat(expires).timestamp() if known else None,
            )
        )
        reason = _REASONS[status]
        self.transport.write(b"HTTP/1.1 %d %s\r\nContent-Length: 2\r\n\r\n{}" % (status, reason))


def _receive(pipe: Connection, port: int) -> None:
    """Listen once told to; from then on hand the log over each time it is asked for."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(None, pipe.recv):
            return
        server = await loop.create_server(_Answering, "127.0.0.1", port, backlog=1024)
        pipe.send([])
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send(list(_Answering.log))
        server.close()

    asyncio.run(serve())


@dataclass
class Receiver:
    """A receiver process on a port, which is down until it is told to listen."""

    port: int
    pipe: Connection

    def listen(self) -> None:
        """Be up, when this returns."""
        self.log()

    def url(self, name: str) -> str:
        """Where an endpoint of this name posts to."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def log(self) -> list[Entry]:
        """All that arrived so far, in the order of the answers."""
        self.pipe.send(True)
        found: list[Entry] = self.pipe.recv()
        return found


@dataclass
class Stage:
    """Servers that run for one measurement, and what is started on them."""

    folder: Path
    database_url: str
    redis_url: str
    engine: Engine
    environment: dict[str, str]
    ends: ExitStack = field(default_factory=ExitStack)

    def receiver(self, *, listening: bool = True) -> Receiver:
        """Start a receiver."""
        ours, theirs = multiprocessing.Pipe()
        port = free_ports(1)
        started = multiprocessing.get_context("spawn").Process(
            target=_receive, args=(theirs, port), daemon=True
        )
        started.start()
        self.ends.callback(started.join, 5)
        self.ends.callback(ours.send, False)
        found = Receiver(port, ours)
        if listening:
            found.listen()
        return found

    def endpoint(self, name: str, url: str, **policy: Any) -> int:
        """Add an endpoint."""
        with self.engine.begin() as connection:
            return rows.add_endpoint(
                connection, name=name, url=url, secret_ciphertext=SEALED, **policy
            )

    def worker(self, role: str = "deliver", **environment: str) -> Program:
        """Start a worker as an operator would, and wait until it is ready."""
        argv = signalpost("worker", "--role", role)
        program = Program(argv, env={**self.environment, **environment})
        self.ends.enter_context(program)
        program.wait_for_line("ready", 60)
        return program

    def producer(self) -> Producer:
        """A producer like a strategy's."""
        made = Producer(self.database_url, self.redis_url, producer_id="measure", environ={})
        return self.ends.enter_context(made)

    def command(self, *arguments: str) -> Program:
        """Run one command of the command line to its end."""
        program = Program(signalpost(*arguments), env=self.environment)
        assert program.wait(60) == 0, program.output
        return program

    def count(self) -> dict[str, int]:
        """How many deliveries stand in which status."""
        question = text("SELECT status, count(*) FROM signalpost.deliveries GROUP BY 1")
        with self.engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(question)}

    def wait(self, done: Callable[[dict[str, int]], bool], seconds: float) -> dict[str, int]:
        """Wait for statuses; return them."""
        end = time.monotonic() + seconds
        while not done(found := self.count()):
            if time.monotonic() > end:
                raise Broken(f"not done in {seconds:g} s: {found}")
            time.sleep(0.1)
        return found


@contextmanager
def stage() -> Iterator[Stage]:
    """PostgreSQL with fsync on and valkey, both new and on loopback, ended with all the rest."""
    with tempfile.TemporaryDirectory(prefix="signalpost-measure-") as name:
        folder = Path(name)
        database_url = stack.postgres_in(folder, durable=True).url()
        redis_url = stack.redis_in(folder, durable=True).url()
        migrate(database_url)
        environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "SECRET_KEYS": KEY,
            "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
        }
        made = Stage(folder, database_url, redis_url, sync_engine(database_url), environment)
        # What a pass over all that tests load would take is not the producer's.
        collector.settle()
        try:
            yield made
        finally:
            made.ends.close()
            made.engine.dispose()
            stack.stop_all()


def signal(instrument: str, number: int) -> Signal:
    """A signal that is like no other one."""
    return Signal(
        instrument=instrument,
        side="buy",
        entry_price="101.5",
        stop_loss="99",
        take_profit="110",
        confidence="0.8",
        reason=f"measured {number}",
        timestamp=datetime.now(UTC),
    )


def pace(count: int, per_second: float) -> Iterator[int]:
    """Count at an even pace; what takes long says every ten seconds how far it is."""
    begin = said = time.monotonic()
    for number in range(count):
        if time.monotonic() - said >= SAY_SECONDS:
            said = time.monotonic()
            print(f"  {number} of {count}, {said - begin:.0f} s", flush=True)
        time.sleep(max(0.0, begin + number / per_second - time.monotonic()))
        yield number


def share_of(values: Sequence[float], part: float) -> float:
    """The value that so large a part of all is not above."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def ids(found: Sequence[Any]) -> list[UUID]:
    """The deliveries of what was enqueued."""
    return [delivery.delivery_id for one in found for delivery in one.deliveries]
