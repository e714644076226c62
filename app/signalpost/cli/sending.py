"""`signalpost send`: JSON lines into the outbox."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from signalpost.cli import values
from signalpost.cli.completing import endpoint_names
from signalpost.cli.joining import (
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import note, print_json
from signalpost.errors import SettingError

if TYPE_CHECKING:
    from signalpost.producer import Producer
    from signalpost.settings import Settings

__all__ = ["send"]


@click.command(
    epilog=examples(
        "signalpost send signals.jsonl",
        "strategy | signalpost send - --endpoint broker --ttl 30s",
        "signalpost send signals.jsonl --strict --wait",
    )
)
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False), metavar="FILE|-")
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="NAME",
    shell_complete=endpoint_names,
    help="Only to this one; repeatable.",
)
@click.option("--ttl", type=values.span, metavar="SPAN", help="How long they live: 30, 30s, 5m.")
@click.option(
    "--producer",
    type=values.producer_id,
    metavar="ID",
    help="Who sends them, instead of PRODUCER_ID.",
)
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
    is safe: known signals are recognised, and stay with the endpoints that they were first sent to.
    The exit code is 1 where a line was bad or an endpoint of --endpoint was not sent to, and with
    --wait also where a delivery ended otherwise than delivered.
    """
    from signalpost.cli.enqueueing import Sending
    from signalpost.cli.following import Progress, counted, follow
    from signalpost.cli.starting import redis_refusal

    if ttl is not None and ttl <= 0:
        raise click.BadParameter("must be more than nothing", param_hint="--ttl")
    settings = find_settings(data, quiet=as_json)
    name = producer or settings.producer_id
    if name is None:
        raise SettingError("PRODUCER_ID is not set; set it, or name the producer by --producer")
    _check_endpoints(settings, endpoints)
    progress = Progress()
    with _opened(file) as source, _producer(settings, name) as outbox:
        sending = Sending(
            outbox,
            progress,
            size_limit=settings.outbound_max_body_size,
            endpoints=list(endpoints) or None,
            ttl=ttl,
        )
        try:
            sending.all_or_none(source) if strict else sending.chunk_by_chunk(source)
            sending.complete = True
        finally:
            progress.clear()
            if not as_json:
                sending.summarise()
            elif not sending.complete:
                print_json(sending.facts())
            if sending.unannounced and (refusal := redis_refusal(settings)):
                note(refusal)
    ended: Counter[str] = Counter()
    try:
        if wait and sending.deliveries:
            follow(settings, sending.deliveries, progress, ended)
    finally:
        if as_json:
            print_json({**sending.facts(), "ended": dict(ended)})
        elif ended:
            click.echo(f"ended: {counted(ended)}")
    well = ended.total() == ended["delivered"] and not sending.bad and not sending.elsewhere
    ctx.exit(0 if well else 1)


def _check_endpoints(settings: Settings, names: Sequence[str]) -> None:
    """Raise EndpointError for a name that nobody has: a known signal would not ask for it."""
    from signalpost.repository.endpoints import get_endpoint

    if names:
        with transaction(settings) as conn:
            for name in names:
                get_endpoint(conn, name)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield _standard_input()
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115  closed below
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from None
    with source:
        yield source


def _standard_input() -> BinaryIO:
    try:
        # Not by sys.stdin: a thread that waits in it while Python exits would abort the process.
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except OSError:  # it is no file, as in a test
        return sys.stdin.buffer


def _producer(settings: Settings, name: str) -> Producer:
    from signalpost.producer import Producer

    # By argument, since a producer does not read `.env` and the command line does.
    return Producer(
        settings.database_url,
        settings.redis_url,
        producer_id=name,
        environ={
            "SIGNAL_TTL_SECONDS": str(settings.signal_ttl_seconds),
            "OUTBOUND_MAX_BODY_SIZE": str(settings.outbound_max_body_size),
        },
    )
