"""Which deliveries a command means: by ids, or by a filter; and how sure a person must be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click

from signalpost.cli import values
from signalpost.cli.completing import endpoint_names
from signalpost.cli.following import Progress
from signalpost.cli.joining import committing

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from signalpost.repository.selecting import Selection

__all__ = ["ASK_ABOVE", "BATCH", "batches", "be_sure", "filter_options", "select", "yes_option"]

Command = TypeVar("Command", bound=Callable[..., Any])

ASK_ABOVE = 100
"""More deliveries than this are not changed without being asked about."""

BATCH = 500
"""In one transaction."""

yes_option = click.option("--yes", is_flag=True, help=f"Do it, also to more than {ASK_ABOVE}.")


def filter_options(command: Command) -> Command:
    """The filters that lists, replays and cancellations have in common."""
    for option in reversed(
        (
            click.option(
                "--endpoint",
                metavar="NAME",
                shell_complete=endpoint_names,
                help="Only to this endpoint.",
            ),
            click.option(
                "--instrument",
                type=values.instrument,
                metavar="NAME",
                help="Only of signals for this instrument.",
            ),
            click.option(
                "--producer",
                type=values.producer_id,
                metavar="ID",
                help="Only of signals of this producer.",
            ),
            click.option(
                "--since",
                type=values.moment,
                metavar="TIME",
                help="Only those enqueued since: 10m, 2h, 1d, or a time with its zone.",
            ),
            click.option(
                "--until",
                "--older-than",
                "until",
                type=values.moment,
                metavar="TIME",
                help="Only those enqueued before: 10m (ago), or a time with its zone.",
            ),
        )
    ):
        command = option(command)
    return command


def select(
    conn: Connection,
    *,
    statuses: Sequence[str] = (),
    endpoint: str | None = None,
    instrument: str | None = None,
    producer: str | None = None,
    reason: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Selection:
    """The filter; raises EndpointError for an endpoint that never was, which is a slip."""
    from signalpost.core.lifecycle import Status
    from signalpost.repository import endpoints
    from signalpost.repository.selecting import Selection

    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must be before --until")
    if endpoint is not None:
        known = {view.name for view in endpoints.list_endpoints(conn, removed=True)}
        if endpoint not in known:
            endpoints.get_endpoint(conn, endpoint)
    return Selection(
        statuses=tuple(Status(status) for status in statuses),
        endpoint=endpoint,
        instrument=instrument,
        producer=producer,
        reason=reason,
        since=since,
        until=until,
    )


def be_sure(number: int, deed: str, *, yes: bool) -> None:
    """Ask where many deliveries are meant; on no terminal, refuse."""
    if yes or number <= ASK_ABOVE:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(f"{number} deliveries would be {deed}. Go on?", abort=True, err=True)
        return
    raise click.ClickException(
        f"{number} deliveries would be {deed}; --yes does it, --dry-run shows what it would do"
    )


@contextmanager
def batches(
    engine: Engine, ids: Sequence[UUID], deed: str
) -> Iterator[Iterator[tuple[Connection, Sequence[UUID]]]]:
    """Groups of ids, each with a transaction of its own, which is committed before the next.

    What was committed stays where a later one fails, and the progress says how far it came.
    """
    progress = Progress()

    def one_by_one() -> Iterator[tuple[Connection, Sequence[UUID]]]:
        for start in range(0, len(ids), BATCH):
            group = ids[start : start + BATCH]
            with committing(engine) as conn:
                yield conn, group
            progress.show(f"{start + len(group)} of {len(ids)} {deed}")

    try:
        yield one_by_one()
    finally:
        progress.clear()
