"""The work of `signalpost bench`: an endpoint for its own signals alone, a receiver, the clock."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import click
from sqlalchemy import Engine

from signalpost.core.signals import Signal
from signalpost.producer import Producer
from signalpost.repository.endpoint_changes import remove_endpoint
from signalpost.repository.endpoints import NewEndpoint, add_endpoint, new_secret
from signalpost.repository.pruning import forget_producer
from signalpost.secretbox import SecretBox
from signalpost.settings import Settings

__all__ = ["Arrivals", "Measured", "bulk", "own_endpoint", "paced"]

CHUNK = 5000
BATCH = 1000
SILENCE_SECONDS = 10.0
LAST_SECONDS = 10.0
TTL_SECONDS = 300.0
WHY = "signalpost bench"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
_KEY, _LENGTH = b"\r\nx-idempotency-key: ", b"\r\ncontent-length: "


class Arrivals:
    """A receiver on loopback that answers at once, and when each delivery first arrived.

    It believes whatever comes: its port and path are known to the one endpoint alone.
    """

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        """Seconds of the monotonic clock, by delivery."""
        self.port = 0
        self._open: set[asyncio.Transport] = set()
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="signalpost-bench", daemon=True
        )
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """Listen no longer."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(5)

    def wait(self, count: int) -> None:
        """Until so many have arrived; ClickException where none comes for SILENCE_SECONDS."""
        last, since = -1, time.monotonic()
        while (found := len(self.at)) < count:
            if found != last:
                last, since = found, time.monotonic()
            if time.monotonic() - since > SILENCE_SECONDS:
                raise click.ClickException(
                    f"{found} of {count} arrived, and nothing for {SILENCE_SECONDS:g} s; see that "
                    "a deliver worker runs on this very host, that nothing is paused (`signalpost "
                    "doctor`), and that its OUTBOUND_ALLOW_NETWORKS has 127.0.0.0/8"
                )
            time.sleep(0.01)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await self._loop.create_server(
            lambda: _Answering(self.at, self._open), "127.0.0.1", 0, backlog=1024
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for transport in list(self._open):
            transport.abort()
        # The sockets are closed in the loop's next turn.
        await asyncio.sleep(0)


class _Answering(asyncio.Protocol):
    def __init__(self, at: dict[str, float], transports: set[asyncio.Transport]) -> None:
        self._at, self._transports = at, transports
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server's always is
        self._transport = transport
        self._transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's form
        self._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        low = head.lower()
        if not found or len(body) < int(_value(low, _LENGTH) or b"0"):
            return
        self._held = b""
        self._at.setdefault(_value(low, _KEY).decode(), time.monotonic())
        self._transport.write(_ANSWER)


def _value(head: bytes, name: bytes) -> bytes:
    return head.partition(name)[2].partition(b"\r\n")[0]


@dataclass
class Measured:
    """What was found; times are in milliseconds, in order of size."""

    arrived_ms: list[float] = field(default_factory=list)
    enqueue_ms: list[float] = field(default_factory=list)
    bulk_signals: int = 0
    bulk_enqueue_seconds: float = 0.0
    bulk_seconds: float = 0.0


@contextmanager
def own_endpoint(
    engine: Engine, settings: Settings, port: int, producer_id: str, actor: str
) -> Iterator[str]:
    """The name of an endpoint that takes this producer's signals only.

    At the end it is removed, and what was enqueued for it is deleted, however it ended. The audit
    trail keeps both acts. Raises EndpointError where the settings allow no loopback.
    """
    new = NewEndpoint(
        name=producer_id,
        url=f"http://127.0.0.1:{port}/{uuid4().hex}",
        secret=new_secret(),
        ttl_seconds=TTL_SECONDS,
        # Or every other producer's signals would come here as well.
        producers=[producer_id],
    )
    with engine.begin() as conn:
        view = add_endpoint(conn, new, settings, SecretBox(settings.secret_keys), actor=actor)
    try:
        yield view.name
    finally:
        with engine.begin() as conn:
            remove_endpoint(conn, view.name, settings, even_waiting=True, actor=actor, why=WHY)
        _forget(engine, producer_id)


def _forget(engine: Engine, producer_id: str) -> None:
    end = time.monotonic() + LAST_SECONDS
    before = -1
    while True:
        with engine.begin() as conn:
            left = forget_producer(conn, producer_id, limit=BATCH)
        if not left:
            return
        if left == before:
            if time.monotonic() > end:
                raise click.ClickException(
                    f"{left} deliveries were not ended in time; they stay, and end by themselves"
                )
            # What is being sent is soon recorded: the receiver still answers.
            time.sleep(0.05)
        before = left


def signal() -> Signal:
    """A signal that nobody can take for a trade of theirs: it goes to our endpoint alone."""
    return Signal(
        id=uuid4(),
        instrument="BENCH",
        side="buy",
        entry_price="1.5",
        stop_loss="1",
        take_profit="2",
        confidence="0",
        reason=WHY,
        timestamp=datetime.now(UTC),
    )


def paced(
    producer: Producer, endpoint: str, arrivals: Arrivals, count: int, per_second: float
) -> Measured:
    """So many signals, one by one at an even pace: how soon each one arrived."""
    sent: dict[str, float] = {}
    found = Measured()
    begin = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, begin + number / per_second - time.monotonic()))
        made = signal()
        before = time.monotonic()
        enqueued = producer.enqueue(made, endpoints=[endpoint], timeout=10)
        found.enqueue_ms.append((time.monotonic() - before) * 1000)
        sent[str(enqueued.deliveries[0].delivery_id)] = before
    arrivals.wait(len(arrivals.at.keys() | sent.keys()))
    found.arrived_ms = sorted((arrivals.at[one] - before) * 1000 for one, before in sent.items())
    found.enqueue_ms.sort()
    return found


def bulk(
    producer: Producer, endpoint: str, arrivals: Arrivals, count: int, found: Measured
) -> None:
    """So many signals at once: how long until the last one arrived."""
    chunks: Sequence[list[Signal]] = [
        [signal() for _ in range(min(CHUNK, count - begin))] for begin in range(0, count, CHUNK)
    ]
    before = time.monotonic()
    there = len(arrivals.at)
    for chunk in chunks:
        producer.enqueue_many(chunk, endpoints=[endpoint], timeout=60)
    found.bulk_enqueue_seconds = time.monotonic() - before
    arrivals.wait(there + count)
    found.bulk_seconds = max(arrivals.at.values()) - before
    found.bulk_signals = count
