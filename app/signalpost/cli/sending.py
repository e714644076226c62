"""`signalpost send`: JSON lines into the outbox."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import UUID

import click

from signalpost.cli import values
from signalpost.cli.joining import examples, find_settings, json_option, shared_options
from signalpost.cli.printing import note, print_json, printable
from signalpost.errors import (
    EnqueueTimeout,
    EnqueueUnknown,
    IdempotencyConflict,
    SettingError,
    SignalError,
)

if TYPE_CHECKING:
    from signalpost.cli.lines import BadLine, GoodLine
    from signalpost.producer import Enqueued, Producer
    from signalpost.settings import Settings

__all__ = ["send"]

_TRIES = 3
_FEW = 5
"""Up to so many signals are named in the answer."""


@click.command(
    epilog=examples(
        "signalpost send signals.jsonl",
        "strategy | signalpost send - --endpoint broker --ttl 30s",
        "signalpost send signals.jsonl --strict --wait",
    )
)
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False), metavar="FILE|-")
@click.option(
    "--endpoint", "endpoints", multiple=True, metavar="NAME", help="Only to this; repeatable."
)
@click.option("--ttl", type=values.span, metavar="SPAN", help="How long they live: 30, 30s, 5m.")
@click.option("--producer", metavar="ID", help="Who sends them, instead of PRODUCER_ID.")
@click.option("--strict", is_flag=True, help="Send none if one line is bad.")
@click.option("--wait", is_flag=True, help="Wait until every delivery has come to its end.")
@json_option
@shared_options
@click.pass_context
def send(
    ctx: click.Context,
    *,
    file: str,
    endpoints: Sequence[str],
    ttl: float | None,
    producer: str | None,
    strict: bool,
    wait: bool,
    as_json: bool,
    data: Path | None,
) -> None:
    """Enqueue signals, one JSON object a line, from FILE or from standard input.

    A bad line is reported by its number, and the good ones are sent. Sending the same lines again
    is safe: known signals are recognised. The exit code is 1 where a line was bad, and with --wait
    also where a delivery ended otherwise than delivered.
    """
    from signalpost.cli.following import Progress, counted, follow

    settings = find_settings(data, quiet=as_json)
    name = producer or settings.producer_id
    if name is None:
        raise SettingError("PRODUCER_ID is not set; set it, or name the producer by --producer")
    tally = Tally(Progress())
    with _opened(file) as source, _producer(settings, name) as outbox:
        work = Sending(outbox, settings, endpoints or None, ttl, tally)
        try:
            if strict:
                work.all_or_none(source)
            else:
                work.chunk_by_chunk(source)
        finally:
            tally.close(as_json=as_json)
    ended: Counter[str] = Counter()
    if wait and tally.deliveries:
        ended = follow(settings, tally.deliveries, tally.progress)
    if as_json:
        print_json({**tally.as_json(), "ended": dict(ended)})
    elif ended:
        click.echo(f"ended: {counted(ended)}")
    failed = tally.bad or ended.total() != ended["delivered"]
    ctx.exit(1 if failed else 0)


@dataclass(slots=True)
class Tally:
    """What was sent so far."""

    progress: object
    started_at: float = field(default_factory=time.monotonic)
    signals: int = 0
    duplicates: int = 0
    unannounced: int = 0
    few: list[Enqueued] = field(default_factory=list)
    deliveries: list[UUID] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)


