"""How many signals a second one process of the receiver kit takes, beside each kind of book.

    python -m tests.measurements.receiving [signals]

Signed requests go straight into the ASGI app, eight at a time: verification, the book and an order
as the handler's effect, each committed to disk; no network and no HTTP server. Rates of one machine
are not those of another; compare rows of one run.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from signalpost.core.signing import Outgoing
from tests import stack
from tests.desks import Desk, PostgresDesk, SqliteDesk, body_of, outgoing, signed

AT_ONCE = 8

Request = tuple[Outgoing, dict[str, str]]


async def post(desk: Desk, requests: Iterator[Request], seconds: list[float]) -> None:
    app = desk.app()
    for facts, headers in requests:
        statuses: list[int] = []

        async def receive(body: bytes = facts.body) -> dict[str, object]:
            return {"type": "http.request", "body": body}

        async def send(message: object, statuses: list[int] = statuses) -> None:
            assert isinstance(message, dict)
            statuses += [message["status"]] if "status" in message else []

        scope = {
            "type": "http",
            "method": "POST",
            "path": facts.raw_path,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        started = time.perf_counter()
        await app(scope, receive, send)
        seconds.append(time.perf_counter() - started)
        assert statuses == [201]


async def measure(name: str, desk: Desk, count: int) -> None:
    made = [outgoing(body=body_of(payload={"n": number})) for number in range(count)]
    requests = iter([(facts, signed(facts)) for facts in made])
    seconds: list[float] = []
    started = time.perf_counter()
    await asyncio.gather(*(post(desk, requests, seconds) for _ in range(AT_ONCE)))
    rate = count / (time.perf_counter() - started)
    each = 1000 * statistics.median(seconds) / AT_ONCE
    print(f"{name:<10} {rate:6.0f} signals a second, {each:.2f} ms each")
    assert desk.orders() == count
    desk.close()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(measure("SQLite", SqliteDesk(folder), count))
        server = stack.postgres_in(folder, durable=True)
        asyncio.run(measure("PostgreSQL", PostgresDesk(server.url()), count))
        stack.stop_all()


if __name__ == "__main__":
    main()
