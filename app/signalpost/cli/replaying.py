"""`signalpost replay`: dead letters are sent again, by id or by filter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from signalpost.cli import values
from signalpost.cli.choosing import batches, be_sure, filter_options, select, yes_option
from signalpost.cli.deliveries import one_delivery
from signalpost.cli.joining import (
    actor,
    examples,
    find_settings,
    json_option,
    open_engine,
    shared_options,
)
from signalpost.cli.printing import note, print_json
from signalpost.cli.replayed import ReplayCounts, replays_json, show_replays

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from signalpost.broker import Broker
    from signalpost.repository.replaying import Replay
    from signalpost.settings import Settings

__all__ = ["replay"]


@click.command(
    epilog=examples(
        "signalpost replay 4f1c9a52 --reason 'receiver is repaired'",
        "signalpost replay 4f1c9a52 --even-expired --ttl 5m",
        "signalpost replay --endpoint broker --since 1h --dry-run",
        "signalpost replay --endpoint broker --reason-is exhausted --yes",
    )
)
@click.argument("deliveries", type=values.chosen_id, nargs=-1, metavar="[ID...]")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(["dead", "expired"]),
    help="Only those that are so; both by default.",
)
@filter_options
@click.option("--reason-is", metavar="WORD", help="Only those dead for this: exhausted, gone ...")
@click.option("--reason", default="", help="Why, for the audit trail.")
@click.option(
    "--even-unknown",
    is_flag=True,
    help="Also those that the receiver may have executed; ask the receiver first.",
)
@click.option("--even-expired", is_flag=True, help="Also those past their expiry; needs --ttl.")
@click.option("--ttl", type=values.life, metavar="SPAN", help="Their new life, such as 300 or 5m.")
@click.option(
    "--even-superseded",
    is_flag=True,
    help="Also those with a supersede key that a newer signal has; they come after it.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@yes_option
@json_option
@shared_options
@click.pass_context
def replay(
    ctx: click.Context,
    /,
    *,
    deliveries: Sequence[values.IdRange],
    reason_is: str | None,
    reason: str,
    even_unknown: bool,
    even_expired: bool,
    ttl: float | None,
    even_superseded: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    data: Path | None,
    **filters: Any,
) -> None:
    """Put dead letters back to be sent, with a fresh budget of retries.

    Name them by ids, or choose them by a filter. By a filter, those that the receiver may have
    executed, those past their expiry and those whose supersede key a newer signal has are left out
    and counted, unless asked for. By ids, the exit code is 1 where one was refused; the others are
    replayed all the same.
    """
    if even_expired != (ttl is not None):
        raise click.UsageError("--even-expired and --ttl belong together")
    filtered = reason_is is not None or any(filters.values())
    if bool(deliveries) == filtered:
        raise click.UsageError(
            "name deliveries by their ids, or choose them by a filter such as --endpoint; not both"
            if filtered
            else "name deliveries by their ids, or choose them by a filter such as --endpoint NAME"
        )
    settings = find_settings(data, quiet=as_json)
    manner = {
        "actor": actor(),
        "why": reason,
        "even_unknown": even_unknown,
        "even_expired_ttl_seconds": ttl,
        "even_superseded": even_superseded,
    }
    with open_engine(settings) as engine:
        ids = _meant(engine, deliveries, reason_is, filters)
        counts = _look(engine, ids, manner, one_by_one=not filtered)
        if not dry_run:
            be_sure(counts.accepted, "replayed", yes=yes)
            counts = _act(engine, ids, manner, settings, one_by_one=not filtered)
    if as_json:
        print_json(replays_json(counts, dry_run=dry_run))
    else:
        show_replays(counts, dry_run=dry_run)
    ctx.exit(1 if counts.one_by_one and counts.refused else 0)


def _meant(
    engine: Engine,
    deliveries: Sequence[values.IdRange],
    reason_is: str | None,
    filters: dict[str, Any],
) -> list[UUID]:
    from signalpost.repository.replaying import REPLAYABLE
    from signalpost.repository.selecting import select_ids

    with engine.begin() as conn:
        if deliveries:
            return [one_delivery(conn, wanted) for wanted in deliveries]
        selection = select(conn, reason=reason_is, **filters)
        return select_ids(conn, selection, among=REPLAYABLE)


def _look(
    engine: Engine, ids: Sequence[UUID], manner: dict[str, Any], *, one_by_one: bool
) -> ReplayCounts:
    from signalpost.repository.replaying import replay as put_back

    counts = ReplayCounts(one_by_one)
    with batches(engine, ids, "looked at") as groups:
        for conn, group in groups:
            for answer in put_back(conn, group, **manner, dry_run=True):
                counts.add(answer)
    return counts


def _act(
    engine: Engine,
    ids: Sequence[UUID],
    manner: dict[str, Any],
    settings: Settings,
    *,
    one_by_one: bool,
) -> ReplayCounts:
    from signalpost.broker import Broker
    from signalpost.repository.replaying import replay as put_back

    counts = ReplayCounts(one_by_one)
    broker, told = Broker(settings.redis_url), True
    committed: list[Replay] = []
    try:
        with batches(engine, ids, "replayed") as groups:
            for conn, group in groups:
                # The group before is committed by now: its workers need not wait for the others.
                told &= _announce(broker, committed)
                committed = put_back(conn, group, **manner)
                for answer in committed:
                    counts.add(answer)
        told &= _announce(broker, committed)
    except BaseException:
        note(f"stopped: about {counts.accepted} were replayed; the same command goes on from there")
        raise
    finally:
        broker.close()
    if not told:
        note("Redis was not told; a worker takes them from PostgreSQL within seconds")
    return counts


def _announce(broker: Broker, answers: Sequence[Replay]) -> bool:
    """A message for each of a few, the doorbell for many."""
    from signalpost.broker import Announcement

    announcements = [
        Announcement(
            answer.delivery_id, answer.signal_id, answer.instrument or "", answer.endpoint or ""
        )
        for answer in answers
        if answer.refusal is None and answer.signal_id is not None
    ]
    return not announcements or broker.announce(announcements)
