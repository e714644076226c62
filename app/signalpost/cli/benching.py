"""`signalpost bench`: how soon and how fast, of the servers and workers that run here."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from signalpost.cli.joining import (
    actor,
    address,
    examples,
    find_settings,
    json_option,
    open_engine,
    shared_options,
)
from signalpost.cli.printing import facts, note, print_json

if TYPE_CHECKING:
    from signalpost.cli.measuring import Measured
    from signalpost.settings import Settings

__all__ = ["bench"]


@click.command(
    epilog=examples(
        "signalpost bench",
        "signalpost bench --count 10000 --yes",
        "signalpost bench --paced 500 --per-second 100 --json --yes",
    )
)
@click.option(
    "--count", type=click.IntRange(1, 100_000), default=2000, show_default=True, help="All at once."
)
@click.option(
    "--paced", type=click.IntRange(1, 10_000), default=250, show_default=True, help="One by one."
)
@click.option(
    "--per-second",
    type=click.FloatRange(1, 1000),
    default=50.0,
    show_default=True,
    help="The pace of those.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@shared_options
def bench(
    *, count: int, paced: int, per_second: float, yes: bool, as_json: bool, data: Path | None
) -> None:
    """Measure the running system: signals of its own, to a receiver of its own, removed afterwards.

    It adds an endpoint on loopback that takes the signals of a producer made for this run only,
    so no other endpoint gets one and no other signal comes here. Workers must run on this host,
    with OUTBOUND_ALLOW_NETWORKS=127.0.0.0/8. They share everything with your own signals
    meanwhile: do it at a quiet time.
    """
    settings = find_settings(data, quiet=as_json)
    _ask(settings, count + paced, yes=yes)
    found = _measure(settings, count, paced, per_second)
    if as_json:
        print_json(_figures(found, per_second))
    else:
        _tell(found, per_second)


def _ask(settings: Settings, signals: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this writes to the database; where nobody can be asked, give --yes")
    where = address(settings.database_url)
    click.confirm(
        f"Write {signals} signals of its own to {where}, and delete them again?",
        abort=True,
        err=True,
    )


def _measure(settings: Settings, count: int, pace: int, per_second: float) -> Measured:
    from signalpost.cli.measuring import Arrivals, bulk, own_endpoint, paced
    from signalpost.producer import Producer

    producer_id = f"bench-{secrets.token_hex(4)}"
    arrivals = Arrivals()
    try:
        with (
            open_engine(settings) as engine,
            own_endpoint(engine, settings, arrivals.port, producer_id, actor()) as name,
            Producer(
                settings.database_url, settings.redis_url, producer_id=producer_id, environ={}
            ) as producer,
        ):
            note(f"endpoint {name} added; it is removed at the end")
            paced(producer, name, arrivals, 3, per_second)
            found = paced(producer, name, arrivals, pace, per_second)
            bulk(producer, name, arrivals, count, found)
    finally:
        arrivals.close()
    return found


def _at(ordered: list[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 3)


def _figures(found: Measured, per_second: float) -> dict[str, Any]:
    return {
        "per_second": per_second,
        "arrived_p50_ms": _at(found.arrived_ms, 0.5),
        "arrived_p99_ms": _at(found.arrived_ms, 0.99),
        "enqueue_p50_ms": _at(found.enqueue_ms, 0.5),
        "enqueue_p99_ms": _at(found.enqueue_ms, 0.99),
        "bulk_signals": found.bulk_signals,
        "bulk_enqueued_per_s": round(found.bulk_signals / found.bulk_enqueue_seconds, 1),
        "bulk_arrived_per_s": round(found.bulk_signals / found.bulk_seconds, 1),
    }


def _tell(found: Measured, per_second: float) -> None:
    told = _figures(found, per_second)
    many = f"{told['bulk_signals']:,} at once"
    facts(
        (
            (
                f"enqueue to receipt at {per_second:g}/s",
                f"p50 {told['arrived_p50_ms']:.1f} ms, p99 {told['arrived_p99_ms']:.1f} ms",
            ),
            (
                "of which enqueue",
                f"p50 {told['enqueue_p50_ms']:.1f} ms, p99 {told['enqueue_p99_ms']:.1f} ms",
            ),
            (f"{many}, enqueued", f"{told['bulk_enqueued_per_s']:,.0f} a second"),
            (f"{many}, arrived", f"{told['bulk_arrived_per_s']:,.0f} a second"),
        )
    )
