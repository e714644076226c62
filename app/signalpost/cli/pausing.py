"""`signalpost pause` and `resume`: the kill switch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from signalpost.cli import values
from signalpost.cli.completing import endpoint_names
from signalpost.cli.joining import (
    actor,
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import note, print_json, utc

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from signalpost.core.pausing import Pause
    from signalpost.repository.pauses import Held

__all__ = ["pause", "resume"]


def _what_options(command: Any) -> Any:
    for option in (
        click.option(
            "--endpoint", metavar="NAME", shell_complete=endpoint_names, help="Only to this one."
        ),
        click.option(
            "--instrument",
            type=values.instrument_glob,
            metavar="GLOB",
            help="Only these, such as 'EUR*'.",
        ),
        click.option(
            "--producer",
            type=values.producer_id,
            metavar="ID",
            help="Only what this strategy enqueues.",
        ),
    ):
        command = option(command)
    return command


def _what(
    conn: Connection,
    producer: str | None,
    instrument: str | None,
    endpoint: str | None,
    *,
    entries_only: bool = False,
) -> tuple[Pause, str]:
    from signalpost.core.pausing import Pause
    from signalpost.repository.endpoints import get_endpoint

    if sum(given is not None for given in (producer, instrument, endpoint)) > 1:
        raise click.UsageError("name one of --producer, --instrument and --endpoint")
    if producer is not None:
        return Pause("producer", producer, None, entries_only), f"producer {producer}"
    if instrument is not None:
        return Pause("instrument", instrument, None, entries_only), f"instrument {instrument}"
    if endpoint is not None:
        found = get_endpoint(conn, endpoint)
        return Pause("endpoint", "", found.id, entries_only), f"endpoint {endpoint}"
    return Pause("all", entries_only=entries_only), "everything"


@click.command(
    epilog=examples(
        "signalpost pause --reason 'news'",
        "signalpost pause --instrument 'EUR*' --entries-only",
        "signalpost pause --endpoint desk",
    )
)
@_what_options
@click.option("--entries-only", is_flag=True, help="Let exits (priority high) through.")
@click.option("--reason", default="", help="Why, for the audit trail.")
@json_option
@shared_options
def pause(
    *,
    producer: str | None,
    instrument: str | None,
    endpoint: str | None,
    entries_only: bool,
    reason: str,
    as_json: bool,
    data: Path | None,
) -> None:
    """Stop sending: everything, or what a producer, an instrument or an endpoint is named for.

    Within a second no request is begun any more; those under way finish. What waits keeps its
    place, and expires when its life ends.
    """
    from signalpost.repository import pauses

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        what, named = _what(conn, producer, instrument, endpoint, entries_only=entries_only)
        held = pauses.pause(conn, what, named=named, actor=actor(), why=reason)
    if as_json:
        print_json({"paused": named, "entries_only": entries_only, **_counted(held)})
        return
    click.echo(f"paused: {named}{', entries only' if entries_only else ''}")
    click.echo(f"{len(held.deliveries)} deliveries wait for the resume")
    if held.exits:
        note(f"{held.exits} of them are exits; --entries-only would let them through")
    if (producer or instrument) and not held.deliveries:
        note("is the name right? `signalpost deliveries list` shows those that were used")


@click.command(
    epilog=examples(
        "signalpost resume",
        "signalpost resume --endpoint desk --yes",
        "signalpost resume --instrument 'EUR*' --drop",
    )
)
@_what_options
@click.option("--yes", is_flag=True, help="Send what waits, in order, slowly at first.")
@click.option("--drop", is_flag=True, help="Cancel what waits instead.")
@click.option("--reason", default="", help="Why, for the audit trail.")
@json_option
@shared_options
def resume(
    *,
    producer: str | None,
    instrument: str | None,
    endpoint: str | None,
    yes: bool,
    drop: bool,
    reason: str,
    as_json: bool,
    data: Path | None,
) -> None:
    """End a pause. Says first how much would go out, and how old it is."""
    from signalpost.broker import Broker
    from signalpost.repository import pauses
    from signalpost.repository.cancelling import Withdrawn, cancel

    if yes and drop:
        raise click.UsageError("--yes and --drop exclude each other")
    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        what, named = _what(conn, producer, instrument, endpoint)
        standing = pauses.find_pause(conn, what)
        if standing is None:
            raise click.ClickException(f"{named} is not paused, so there is nothing to resume")
        held = pauses.held_by(conn, standing)
        if held.deliveries and not (yes or drop):
            raise click.ClickException(
                f"{len(held.deliveries)} deliveries would go out, {held.exits} of them exits, the "
                f"oldest of {utc(held.oldest)}: --yes sends them, --drop cancels them"
            )
        dropped = doubtful = 0
        if drop and held.deliveries:
            why = reason or f"resume of {named}"
            answers = cancel(conn, held.deliveries, actor=actor(), why=why)
            dropped = sum(one.changed for one in answers)
            doubtful = sum(one.answer is not Withdrawn.PREVENTED for one in answers)
        pauses.resume(conn, standing, named=named, actor=actor(), why=reason)
    broker = Broker(settings.redis_url)
    broker.ring()
    broker.close()
    if as_json:
        counts = {"cancelled": dropped, "may_have_been_executed": doubtful, **_counted(held)}
        print_json({"resumed": named, "dropped": drop, **counts})
    else:
        told = (
            f"{dropped} deliveries were cancelled"
            if drop
            else f"{len(held.deliveries)} deliveries go out now"
        )
        click.echo(f"resumed: {named}; {told}")
        if doubtful:
            note(f"{doubtful} of these may have been executed before: ask the receiver")


def _counted(held: Held) -> dict[str, Any]:
    return {"deliveries": len(held.deliveries), "exits": held.exits, "oldest": held.oldest}
