"""`signalpost cancel`: deliveries are withdrawn, and each is answered for honestly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
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
from signalpost.cli.printing import note, print_json, table

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from signalpost.repository.cancelling import Cancellation

__all__ = ["cancel"]

_MOST_NAMED = 20
"""So many that may be executed are named one by one; --json names all."""


@dataclass(slots=True)
class _Counts:
    """Cancellations by endpoint, former status and answer; what is not prevented is kept."""

    one_by_one: bool
    answers: list[Cancellation] = field(default_factory=list)
    groups: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    changed: int = 0

    def add(self, answer: Cancellation) -> None:
        self.changed += answer.changed
        if self.one_by_one or answer.answer != "prevented":
            self.answers.append(answer)
        self.groups[answer.endpoint or "-", str(answer.was), answer.answer.value] += 1

    @property
    def doubtful(self) -> bool:
        """Whether one of them may be executed, or was."""
        return any(answer.answer != "prevented" for answer in self.answers)


@click.command(
    epilog=examples(
        "signalpost cancel 4f1c9a52 --reason 'wrong size'",
        "signalpost cancel --instrument AAPL --dry-run",
        "signalpost cancel --endpoint broker --older-than 2m --yes",
        "signalpost cancel --all --yes --json",
    )
)
@click.argument("deliveries", type=values.chosen_id, nargs=-1, metavar="[ID...]")
@filter_options
@click.option("--all", "everything", is_flag=True, help="All that is not finished.")
@click.option("--reason", default="", help="Why, for the audit trail.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@yes_option
@json_option
@shared_options
@click.pass_context
def cancel(
    ctx: click.Context,
    /,
    *,
    deliveries: Sequence[values.IdRange],
    everything: bool,
    reason: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    data: Path | None,
    **filters: Any,
) -> None:
    """Withdraw deliveries that are not finished, so that they are not sent, or not again.

    ID is a delivery's or a signal's, which means all its deliveries; or choose by a filter those
    that are pending or being sent. Each is answered for: prevented (it surely did not arrive and
    will not be sent), already_sent, or unknown (an attempt is under way, or ended without proof:
    ask the receiver). The exit code is 1 where one was not prevented.
    """
    from signalpost.broker import Broker

    filtered = any(filters.values())
    if bool(deliveries) + filtered + everything != 1:
        raise click.UsageError(
            "say which: by ids, or by a filter such as --instrument NAME, or --all"
            + ("; only one of these" if bool(deliveries) + filtered + everything else "")
        )
    settings = find_settings(data, quiet=as_json)
    with open_engine(settings) as engine:
        ids = _meant(engine, deliveries, filters)
        one_by_one = bool(deliveries)
        counts = _go(engine, ids, reason, dry_run=True, one_by_one=one_by_one)
        if not dry_run:
            be_sure(counts.changed, "cancelled", yes=yes)
            counts = _go(engine, ids, reason, dry_run=False, one_by_one=one_by_one)
            # What stood behind these may go.
            broker = Broker(settings.redis_url)
            broker.ring()
            broker.close()
    if as_json:
        print_json(_json(counts, dry_run=dry_run))
    else:
        _show(counts, dry_run=dry_run)
    ctx.exit(1 if counts.doubtful else 0)


def _meant(
    engine: Engine, deliveries: Sequence[values.IdRange], filters: dict[str, Any]
) -> list[UUID]:
    from signalpost.repository.cancelling import CANCELLABLE
    from signalpost.repository.selecting import select_ids

    with engine.begin() as conn:
        if not deliveries:
            return select_ids(conn, select(conn, **filters), among=CANCELLABLE)
        return [one for wanted in deliveries for one in _of_one_id(conn, wanted)]


def _of_one_id(conn: Connection, wanted: values.IdRange) -> list[UUID]:
    """The delivery of this id, or all deliveries of the signal of this id."""
    from signalpost.repository import reading

    found = reading.find_deliveries(conn, wanted.low, wanted.high)
    signals = {reading.signal_of(conn, delivery_id) for delivery_id in found}
    [signal_id] = signals if len(signals) == 1 else [None]
    if signal_id is not None and wanted.low <= signal_id <= wanted.high:
        return reading.deliveries_of(conn, signal_id)
    return [one_delivery(conn, wanted)]


def _go(
    engine: Engine, ids: Sequence[UUID], why: str, *, dry_run: bool, one_by_one: bool
) -> _Counts:
    from signalpost.repository.cancelling import cancel as withdraw

    counts = _Counts(one_by_one)
    try:
        with batches(engine, ids, "looked at" if dry_run else "cancelled") as groups:
            for conn, group in groups:
                for answer in withdraw(conn, group, actor=actor(), why=why, dry_run=dry_run):
                    counts.add(answer)
    except BaseException:
        if not dry_run:
            note(f"stopped: about {counts.changed} were cancelled; the same command goes on")
        raise
    return counts


def _json(counts: _Counts, *, dry_run: bool) -> object:
    each = [{**asdict(answer), "dry_run": dry_run} for answer in counts.answers]
    if counts.one_by_one:
        return each
    return {
        "dry_run": dry_run,
        "cancelled": counts.changed,
        "groups": [
            {"endpoint": endpoint, "was": was, "answer": answer, "number": number}
            for (endpoint, was, answer), number in sorted(counts.groups.items())
        ],
        "not_prevented": each,
    }


def _show(counts: _Counts, *, dry_run: bool) -> None:
    if not counts.one_by_one:
        table(
            ("endpoint", "was", "answer", "number"),
            [(*group, number) for group, number in sorted(counts.groups.items())],
            empty="no delivery that is pending or being sent matches",
        )
    named = counts.answers if counts.one_by_one else counts.answers[:_MOST_NAMED]
    if named:
        if not counts.one_by_one:
            click.echo("\nnot prevented: ask their receivers")
        table(
            ("delivery", "instrument", "side", "endpoint", "was", "answer", "note"),
            [
                (a.delivery_id, a.instrument, a.side, a.endpoint, a.was, a.answer, a.note)
                for a in named
            ],
            empty="",
        )
    if len(named) < len(counts.answers):
        click.echo(f"and {len(counts.answers) - len(named)} more; --json names all")
    if dry_run:
        note("nothing was changed: this was a dry run")
