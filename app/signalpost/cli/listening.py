"""The server behind `signalpost receiver`: the kit on uvicorn, one line for each request."""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click
import uvicorn

from signalpost.cli.printing import note, printable
from signalpost.core.signing import Profile
from signalpost.errors import BookError
from signalpost.receiver import Misbehaving, Receiver, Seen, SqliteBook, abortable_http
from signalpost.repository.endpoints import new_secret

__all__ = ["Manners", "Post", "listen"]


@dataclass(frozen=True, slots=True)
class Post:
    """Where it listens, and for whom; no `secrets`: one is made; `port` 0: a free one."""

    port: int
    secrets: tuple[str, ...] = field(repr=False)
    profile: str
    public_url: str | None
    book: Path | None


@dataclass(frozen=True, slots=True)
class Manners:
    """How it misbehaves; see `Misbehaving`."""

    fail: int
    fail_rate: float
    status: int | None
    drop: bool
    delay_seconds: float


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Ours are set in `_serve`: uvicorn would raise them again after the last answer.
        yield


def listen(post: Post, manners: Manners) -> None:
    """Serve until SIGINT or SIGTERM, then print what was counted."""
    with ExitStack() as ending:
        door = ending.enter_context(_open_door(post.port))
        port = door.getsockname()[1]
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="signalpost-receiver-"))
        book = _open_book(post.book or Path(folder) / "book.sqlite")
        ending.callback(book.close)
        secrets = post.secrets or (new_secret(),)
        public_url = post.public_url or f"http://127.0.0.1:{port}"
        receiver = Receiver(
            secrets=secrets,
            public_url=public_url,
            book=book,
            profile=Profile(post.profile),
            observer=_print_line,
        )
        misbehaving = Misbehaving(
            receiver,
            fail=manners.fail,
            fail_rate=manners.fail_rate,
            status=manners.status,
            drop=manners.drop,
            delay_seconds=manners.delay_seconds,
            observer=lambda text: click.echo(f"{_clock()}  {text}"),
        )

        def tell() -> None:
            here = f"http://127.0.0.1:{port}"
            click.echo(f"listening on {here} for {public_url}, {post.profile} profile")
            if not post.secrets:
                click.echo(f"secret, made for this run: {secrets[0]}")
                note(
                    "hand it over: echo SECRET | signalpost endpoint add NAME "
                    f"{public_url}/signals --secret-stdin"
                )

        asyncio.run(_serve(misbehaving, door, tell))
        _print_counts(receiver, misbehaving)


async def _serve(app: Misbehaving, door: socket.socket, tell: Callable[[], None]) -> None:
    """Serve until a signal; tell so once a signal ends it in order."""
    config = uvicorn.Config(
        app,
        http=abortable_http(),
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=3,
    )
    server = _Server(config)

    def end() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    tell()
    await server.serve(sockets=[door])


def _open_door(port: int) -> socket.socket:
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(("127.0.0.1", port))
        # From here on a request waits for the server instead of being turned away.
        door.listen(128)
    except OSError as error:
        door.close()
        raise click.ClickException(
            f"port {port} cannot be used ({error.strerror}); choose another by --port"
        ) from None
    return door


def _open_book(path: Path) -> SqliteBook:
    try:
        return SqliteBook(path)
    except BookError as error:
        raise click.ClickException(str(error)) from None


def _print_line(seen: Seen) -> None:
    labels = f" {seen.instrument} {seen.side}" if seen.instrument else ""
    ids = f"delivery={seen.delivery_id or '-'} signal={seen.signal_id or '-'}"
    attempt = "" if seen.attempt is None else f" attempt={seen.attempt}"
    detail = f" ({printable(seen.detail)})" if seen.detail else ""
    click.echo(f"{_clock()}  {seen.status_code} {seen.verdict}  {ids}{attempt}{labels}{detail}")


def _print_counts(receiver: Receiver[sqlite3.Connection], misbehaving: Misbehaving) -> None:
    counts = [f"{number} {verdict}" for verdict, number in sorted(receiver.counts.items())]
    if misbehaving.failed:
        counts.append(f"{misbehaving.failed} gone wrong as told")
    click.echo(", ".join(counts) or "nothing arrived")


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3] + "Z"
