"""How fast and how soon: bulk, singles and latency of real workers on real servers.

    python -m tests.measurements.deliveries [worker processes] [rounds]

Everything runs on this machine: PostgreSQL (fsync on), valkey, workers, the producer and the
receiver (a process of its own that answers at once), so the figures say what this machine does with
all of it together. Rates of one machine are not those of another; compare rows of one run.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from redis import Redis
from sqlalchemy import Engine, text

from signalpost import Producer, Signal
from signalpost.broker import Announcement, Broker
from signalpost.database import migrate, sync_engine
from tests import rows, stack
from tests.engines import KEY, SEALED
from tests.processes import Program, signalpost

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
BULK, SINGLES, PACED, PER_SECOND = 5000, 1500, 500, 50


class Recording(asyncio.Protocol):
    """Notes when each delivery's request was complete, and accepts it."""

    arrived: dict[str, float] = {}  # noqa: RUF012 - one receiver a process

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.held = b""

    def data_received(self, data: bytes) -> None:
        self.held += data
        head, found, body = self.held.partition(b"\r\n\r\n")
        if not found:
            return
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        headers = {name.lower(): value for name, value in headers.items()}
        if len(body) < int(headers[b"content-length"]):
            return
        self.held = b""
        self.arrived[headers[b"x-idempotency-key"].decode()] = time.time()
        self.transport.write(ANSWER)


def receive(pipe: Connection) -> None:
    """Serve until told; hand over what arrived, each time it is asked for."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recording, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send(dict(Recording.arrived))
        server.close()

    asyncio.run(serve())


def wait_delivered(engine: Engine, count: int) -> None:
    end = time.monotonic() + 120
    question = text("SELECT count(*) FROM signalpost.deliveries WHERE status = 'delivered'")
    while time.monotonic() < end:
        with engine.connect() as connection:
            if connection.execute(question).scalar_one() == count:
                return
        time.sleep(0.02)
    raise SystemExit("not everything was delivered in time")


def clear(engine: Engine, redis: Redis) -> None:
    """Begin a case with nothing left of the one before, messages that find nothing included."""
    while redis.exists("deliver", "drain", "unacked"):
        time.sleep(0.02)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE signalpost.signals, signalpost.endpoints CASCADE"))


def fill(engine: Engine, url: str, count: int) -> list[Announcement]:
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection, url=url, secret_ciphertext=SEALED)
        made = []
        for _ in range(count):
            signal_id = rows.add_signal(connection, body=b'{"instrument":"AAPL"}')
            delivery_id = rows.add_delivery(
                connection, signal_id=signal_id, endpoint_id=endpoint_id
            )
            made.append(Announcement(delivery_id, signal_id, "AAPL", "local"))
    return made


def bulk(engine: Engine, redis: Redis, broker: Broker, url: str) -> float:
    clear(engine, redis)
    fill(engine, url, BULK)
    began = time.perf_counter()
    broker.ring()
    wait_delivered(engine, BULK)
    return BULK / (time.perf_counter() - began)


def singles(engine: Engine, redis: Redis, broker: Broker, url: str) -> float:
    clear(engine, redis)
    made = fill(engine, url, SINGLES)
    began = time.perf_counter()
    for item in made:
        broker.announce([item])
    wait_delivered(engine, SINGLES)
    return SINGLES / (time.perf_counter() - began)


def paced(
    engine: Engine, redis: Redis, producer: Producer, url: str, pipe: Connection
) -> list[float]:
    """Milliseconds from before each enqueue to the request's arrival, in order of size."""
    clear(engine, redis)
    with engine.begin() as connection:
        rows.add_endpoint(connection, url=url, secret_ciphertext=SEALED)
    called: dict[str, float] = {}
    begin = time.monotonic()
    for number in range(PACED):
        time.sleep(max(0.0, begin + number / PER_SECOND - time.monotonic()))
        signal = Signal(
            instrument="AAPL",
            side="buy",
            entry_price="101.5",
            stop_loss="99",
            take_profit="110",
            confidence="0.8",
            reason="measured",
            timestamp=datetime.now(UTC),
        )
        moment = time.time()
        found = producer.enqueue(signal)
        called[str(found.deliveries[0].delivery_id)] = moment
    wait_delivered(engine, PACED)
    pipe.send(True)
    arrived = pipe.recv()
    return sorted((arrived[key] - moment) * 1000 for key, moment in called.items())


@dataclass
class Ground:
    """Servers, and a receiver in a process of its own; what is added to `ends` ends before them."""

    folder: Path
    database_url: str
    redis_url: str
    engine: Engine
    url: str
    """The receiver's."""
    pipe: Connection
    """Asks the receiver what arrived."""
    ends: ExitStack

    @property
    def environment(self) -> dict[str, str]:
        """A worker's."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SECRET_KEYS": KEY,
            "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
        }

    def worker(self) -> Program:
        """Start a deliver worker, and wait until it is ready."""
        argv = signalpost("worker", "--role", "deliver")
        program = self.ends.enter_context(Program(argv, env=self.environment))
        program.wait_for_line("ready")
        return program

    def redis(self) -> Redis:
        """A connection to Redis."""
        redis: Redis = Redis.from_url(self.redis_url)
        self.ends.callback(redis.close)
        return redis

    def producer(self) -> Producer:
        """A producer like a strategy's."""
        made = Producer(self.database_url, self.redis_url, producer_id="measure", environ={})
        return self.ends.enter_context(made)


@contextmanager
def ground() -> Iterator[Ground]:
    """Start all that a measurement stands on; nothing is left at the end."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as ends:
        folder = Path(name)
        database_url = stack.postgres_in(folder, durable=True).url()
        redis_url = stack.redis_in(folder, durable=True).url()
        ends.callback(stack.stop_all)
        migrate(database_url)
        engine = sync_engine(database_url)
        ends.callback(engine.dispose)
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(
            target=receive, args=(theirs,), daemon=True
        )
        server.start()
        ends.callback(server.join, 5)
        ends.callback(ours.send, False)
        url = f"http://127.0.0.1:{ours.recv()}/hook"
        yield Ground(folder, database_url, redis_url, engine, url, ours, ends)


def main(workers: int, rounds: int) -> None:
    with ground() as here:
        engine, url, ours = here.engine, here.url, here.pipe
        for _ in range(workers):
            here.worker()
        broker, redis, producer = Broker(here.redis_url), here.redis(), here.producer()
        singles(engine, redis, broker, url)  # warm
        print(f"{workers} worker process(es), medians of {rounds} rounds")
        rate = statistics.median(bulk(engine, redis, broker, url) for _ in range(rounds))
        print(f"bulk (drain):      {rate:8.0f} deliveries/s")
        rate = statistics.median(singles(engine, redis, broker, url) for _ in range(rounds))
        print(f"singles (deliver): {rate:8.0f} deliveries/s")
        found = [paced(engine, redis, producer, url, ours) for _ in range(rounds)]
        for share in (0.5, 0.99):
            value = statistics.median(times[int(len(times) * share)] for times in found)
            print(f"enqueue to receipt at {PER_SECOND}/s, p{share * 100:.0f}: {value:6.1f} ms")


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:] or (1, 3)))
