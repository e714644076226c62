"""A receiving server of the kit on uvicorn, whose effect is an order beside the book's keys.

A program for test_receiver_crashes.py, which kills it. Arguments: the kind of book, where it is,
the port (0: a free one), and the moment at which to stand still: `effect` (done, not committed),
`answer` (committed, not answered) or `never`. The endpoint's secret comes in the environment.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any

import uvicorn

from signalpost.receiver import Book, PostgresBook, Received, Receiver, Seen, SqliteBook


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the test reads it


def main() -> None:
    kind, place, port, moment = sys.argv[1:]

    def stand_still(at: str) -> None:
        if moment == at:
            say(f"standing still before the {'commit' if at == 'effect' else 'answer'}")
            time.sleep(600)

    def execute(connection: Any, received: Received) -> None:
        order = f"('{received.delivery_id}', '{received.signal.instrument}')"
        connection.execute(f"INSERT INTO orders VALUES {order}")
        stand_still("effect")

    def observe(seen: Seen) -> None:
        say(f"{seen.status_code} {seen.verdict} {seen.detail}")
        stand_still("answer")

    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("127.0.0.1", int(port)))
    url = f"http://127.0.0.1:{door.getsockname()[1]}/hooks/signals"
    book: Book[Any] = SqliteBook(place) if kind == "sqlite" else PostgresBook(place)
    app: Receiver[Any] = Receiver(
        secrets=[os.environ["DESK_SECRET"]],
        public_url=url,
        book=book,
        handler=execute,
        observer=observe,
    )
    door.listen(16)
    say(f"listening on {url}")
    config = uvicorn.Config(app, lifespan="off", log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[door])
    book.close()


if __name__ == "__main__":
    main()
