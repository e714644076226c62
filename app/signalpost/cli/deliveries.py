"""`signalpost deliveries`: the list, and the whole story of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from signalpost.cli import values
from signalpost.cli.choosing import filter_options, select
from signalpost.cli.joining import (
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import age, note, print_json, table, utc
from signalpost.cli.tailing import remark, tail
from signalpost.cli.watching import watch_option

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from signalpost.repository.reading import DeliveryLine

_STATUSES = ("pending", "sending", "delivered", "dead", "expired", "cancelled", "superseded")


@click.group(short_help="Deliveries: list them, or tell the story of one.")
def deliveries() -> None:
    """Deliveries: one signal to one endpoint each."""


@deliveries.command(
    "list",
    epilog=examples(
        "signalpost deliveries list --status dead --status expired",
        "signalpost deliveries list --endpoint broker --since 1h --json",
        "signalpost deliveries list --watch --status delivered --status dead",
    ),
)
@click.option("--status", "statuses", multiple=True, type=click.Choice(_STATUSES))
@filter_options
@click.option("--reason-is", "--reason", "reason", metavar="WORD", help="Only for this reason.")
@click.option(
    "--before",
    type=values.id_range,
    metavar="ID",
    help="Only those older than this delivery: the next page.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    help="How many, 50 by default; with --watch those to begin with, 10 by default.",
)
@watch_option
@json_option
@shared_options
def list_command(
    *,
    statuses: Sequence[str],
    reason: str | None,
    before: values.IdRange | None,
    limit: int | None,
    every: float | None,
    as_json: bool,
    data: Path | None,
    **filters: Any,
) -> None:
    """List deliveries, the newest first.

    With --watch the newest come last, and below them each delivery that is enqueued, changes or
    ends, as it happens, until Ctrl-C; with --json one a line. An attempt that is shorter than the
    time between two looks shows by its result.
    """
    from signalpost.repository import reading

    filters["reason"] = reason
    if every is not None:
        if before is not None:
            raise click.UsageError("--before is for pages; --watch has none")
        tail(
            data,
            seconds=every,
            statuses=statuses,
            filters=filters,
            limit=limit or 10,
            as_json=as_json,
        )
        return
    limit = limit or 50
    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        found = reading.list_deliveries(
            conn,
            select(conn, statuses=statuses, **filters),
            before=None if before is None else one_delivery(conn, before),
            limit=limit,
        )
        now = reading.database_time(conn)
    if as_json:
        print_json([asdict(line) for line in found])
        return
    table(
        _COLUMNS,
        [_row(line, now) for line in found],
        empty="no deliveries here; `signalpost deliveries list` without options shows all",
    )
    if len(found) == limit:
        note(f"older ones: the same command with --before {found[-1].delivery_id}")


@deliveries.command(
    "show",
    epilog=examples(
        "signalpost deliveries show 4f1c9a52",
        "signalpost deliveries show 4f1c9a52-5d1e-4a57-9f0f-0d8f2b6f7a11 --json",
    ),
)
@click.argument("delivery", type=values.id_range, metavar="ID")
@click.option("--reveal-body", is_flag=True, help="Also print the signal's body: it is private.")
@json_option
@shared_options
def show_command(
    *, delivery: values.IdRange, reveal_body: bool, as_json: bool, data: Path | None
) -> None:
    """Tell the whole story of one delivery.

    ID is a delivery's id or a signal's, or the beginning of one that is unique.
    """
    from signalpost.cli.story import story_json, tell
    from signalpost.repository import stories

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        story = stories.delivery_story(conn, one_delivery(conn, delivery))
        if story is None:
            raise click.ClickException("the delivery was pruned in this moment")
        body = stories.signal_body(conn, story.delivery.signal_id) if reveal_body else None
    if as_json:
        print_json(story_json(story, body))
    else:
        tell(story, settings, body)


def one_delivery(conn: Connection, wanted: values.IdRange) -> UUID:
    """The one delivery that a person's id means; a usage error where it means none or several."""
    from signalpost.repository import reading

    found = reading.find_deliveries(conn, wanted.low, wanted.high)
    if len(found) == 1:
        return found[0]
    if not found:
        raise click.ClickException(
            f"no delivery or signal has an id that begins with {wanted.written}; "
            "`signalpost deliveries list` shows those there are"
        )
    several = ", ".join(map(str, found[:5])) + (" ..." if len(found) > 5 else "")
    raise click.ClickException(
        f"{wanted.written} means {len(found)} deliveries; name one of them: {several}"
    )


_COLUMNS = (
    *("delivery", "instrument", "side", "endpoint", "status", "attempts"),
    *("enqueued", "age", "note"),
)


def _row(line: DeliveryLine, now: datetime) -> tuple[object, ...]:
    return (
        line.delivery_id,
        line.instrument,
        line.side,
        line.endpoint,
        line.status,
        line.attempts,
        utc(line.created_at),
        age((now - line.created_at).total_seconds()),
        remark(line, now),
    )
