"""The demo's receiver, a process of its own: the kit for each endpoint, and a ledger around it.

    python -m signalpost.demo.receiver_process FOLDER

It takes a :class:`Plan` as one JSON line on stdin, prints ``port=<number>`` and serves until it is
told to end or its stdin closes, so that it never outlives the demo.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from signalpost.demo.ledger import Ledger, Receipt, Verdict
from signalpost.receiver import (
    Handler,
    Misbehaving,
    Received,
    Receiver,
    Refused,
    Seen,
    SqliteBook,
)
from signalpost.receiver import Verdict as KitVerdict
from signalpost.receiver.requests import Receive, Scope, Send, answer, headers_of

__all__ = ["LEDGER", "Gate", "Plan", "main"]

LEDGER = "receiver-ledger.jsonl"

_VERDICTS = {
    KitVerdict.ACCEPTED: Verdict.ACCEPTED,
    KitVerdict.DUPLICATE: Verdict.DUPLICATE,
    KitVerdict.REFUSED: Verdict.REFUSED,
    KitVerdict.UNVERIFIED: Verdict.BAD_SIGNATURE,
}

# When the request under way came in: what the kit does with it afterwards is not part of the way.
_arrived_at: ContextVar[float] = ContextVar("arrived_at")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the receiver serves and how it misbehaves.

    ``secrets``: each endpoint's, by name. The ``misbehaving`` endpoint answers 503 for
    ``fail_seconds`` from its request number ``fail_at`` on, and refuses for good the signal that is
    the ``refuse_at``-th it would have accepted.
    """

    secrets: dict[str, str]
    misbehaving: str
    fail_at: int
    fail_seconds: float
    refuse_at: int

    def to_json(self) -> str:
        """One line, for stdin; it holds secrets."""
        return json.dumps(asdict(self))


class Gate:
    """Stands before one endpoint's kit and answers 503 while the endpoint is out of order."""

    def __init__(
        self,
        receiver: Receiver[sqlite3.Connection],
        *,
        fail_at: int,
        fail_seconds: float,
        failed: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = Misbehaving(receiver, status=503)
        self._fail_at = fail_at
        self._fail_seconds = fail_seconds
        self._failed = failed
        self._monotonic = monotonic
        self._requests = 0
        self._until: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request (ASGI 3)."""
        _arrived_at.set(time.time())
        self._app.always = self._out_of_order()
        if self._app.always:
            self._failed(headers_of(scope).get("x-idempotency-key", ""))
        await self._app(scope, receive, send)

    def _out_of_order(self) -> bool:
        self._requests += 1
        if self._requests == self._fail_at:
            self._until = self._monotonic() + self._fail_seconds
        return self._until is not None and self._monotonic() < self._until


def main() -> None:
    """Read the plan, serve, end with stdin."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.captureWarnings(capture=True)
    folder = Path(sys.argv[1])
    plan = Plan(**json.loads(sys.stdin.readline()))
    ledger = Ledger(folder / LEDGER)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    books = {name: SqliteBook(folder / f"receiver-{name}.sqlite") for name in plan.secrets}
    gates = {f"/{name}": _gate(plan, name, book, ledger, port) for name, book in books.items()}
    # The server passes a SIGTERM on once it has ended; the books are to be closed first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        asyncio.run(_serve(gates, listening, port))
    finally:
        for book in books.values():
            book.close()
        ledger.close()


def _gate(plan: Plan, name: str, book: SqliteBook, ledger: Ledger, port: int) -> Gate:
    misbehaves = name == plan.misbehaving

    def write(verdict: Verdict, delivery: str, signal: str = "") -> None:
        ledger.append(Receipt(_arrived_at.get(), name, verdict, delivery, signal))

    def observe(seen: Seen) -> None:
        verdict = _VERDICTS.get(seen.verdict, Verdict.OTHER)
        write(verdict, seen.delivery_id or "", seen.signal_id or "")

    receiver = Receiver(
        secrets=[plan.secrets[name]],
        public_url=f"http://127.0.0.1:{port}/{name}",
        book=book,
        handler=_refusing_one(plan.refuse_at) if misbehaves else None,
        observer=observe,
    )
    return Gate(
        receiver,
        fail_at=plan.fail_at if misbehaves else 0,
        fail_seconds=plan.fail_seconds,
        failed=lambda delivery: write(Verdict.FAILED, delivery),
    )


def _refusing_one(refuse_at: int) -> Handler[sqlite3.Connection]:
    """Make a handler that refuses the signal whose turn is ``refuse_at``, each time it comes."""
    turns = 0
    refused: UUID | None = None

    def handler(_: sqlite3.Connection, received: Received) -> None:
        nonlocal turns, refused
        turns += 1
        if turns == refuse_at:
            refused = received.signal.id
        if received.signal.id == refused:
            raise Refused("this account does not trade that")

    return handler


async def _serve(gates: dict[str, Gate], listening: socket.socket, port: int) -> None:
    import uvicorn  # noqa: PLC0415 - in the extra that the demo needs, not the library

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        gate = gates.get(scope["path"])
        if gate is None:
            await answer(send, 404, {"status": "rejected", "message": "no such endpoint"}, {})
        else:
            await gate(scope, receive, send)

    config = uvicorn.Config(route, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)

    def end_with_stdin() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end_with_stdin, daemon=True).start()
    listening.listen(128)
    print(f"port={port}", flush=True)  # noqa: T201 - the demo reads it
    await server.serve(sockets=[listening])


if __name__ == "__main__":
    main()
