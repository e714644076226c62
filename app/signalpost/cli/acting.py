"""Commands that change the outbox by a person's hand: `migrate` and `replay`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signalpost.cli import values
from signalpost.cli.deliveries import one_delivery
from signalpost.cli.joining import (
    actor,
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import note, print_json, table, utc

if TYPE_CHECKING:
    from signalpost.repository.replaying import Replay
    from signalpost.settings import Settings

__all__ = ["migrate", "replay"]


@click.command(epilog=examples("signalpost migrate"))
@shared_options
def migrate(*, data: Path | None) -> None:
    """Make the tables, or bring them to this release.

    Any number of processes may do this at once. Everything lives in the schema `signalpost`, so
    the database may be one that other programs use.
    """
    from signalpost.database import migrate as bring_up
    from signalpost.database import sync_engine
    from signalpost.repository.reading import schema_revision

    settings = find_settings(data)
    engine = sync_engine(settings.database_url)
    try:
        with engine.connect() as conn:
            before = schema_revision(conn)
        bring_up(settings.database_url)
        with engine.connect() as conn:
            after = schema_revision(conn)
    finally:
        engine.dispose()
    if before == after:
        click.echo(f"the tables are at revision {after}; nothing to do")
    else:
        click.echo(f"the tables went from {before or 'nothing'} to revision {after}")


@click.command(
    epilog=examples(
        "signalpost replay 4f1c9a52 --reason 'receiver is repaired'",
        "signalpost replay 4f1c9a52 --even-expired --ttl 5m",
        "signalpost replay 4f1c9a52 9b22d0c1 --dry-run",
    )
)
@click.argument("deliveries", type=values.id_range, nargs=-1, required=True, metavar="ID...")
@click.option("--reason", default="", help="Why, for the audit trail.")
@click.option(
    "--even-unknown",
    is_flag=True,
    help="Also those that the receiver may have executed; ask the receiver first.",
)
@click.option("--even-expired", is_flag=True, help="Also those past their expiry; needs --ttl.")
@click.option("--ttl", type=values.span, metavar="SPAN", help="Their new life, such as 300 or 5m.")
@click.option("--dry-run", is_flag=True, help="Only say what would happen.")
@json_option
@shared_options
@click.pass_context
def replay(
    ctx: click.Context,
    *,
    deliveries: Sequence[values.IdRange],
    reason: str,
    even_unknown: bool,
    even_expired: bool,
    ttl: float | None,
    dry_run: bool,
    as_json: bool,
    data: Path | None,
) -> None:
    """Put dead letters back to be sent, with a fresh budget of retries.

    The exit code is 1 where one of them was refused; the others are replayed all the same.
    """
    from signalpost.repository.replaying import replay as put_back

    if even_expired != (ttl is not None):
        raise click.UsageError("--even-expired and --ttl belong together")
    if ttl is not None and ttl <= 0:
        raise click.BadParameter("must be more than nothing", param_hint="--ttl")
    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        answers = put_back(
            conn,
            [one_delivery(conn, wanted) for wanted in deliveries],
            actor=actor(),
            why=reason,
            even_unknown=even_unknown,
            even_expired_ttl_seconds=ttl,
            dry_run=dry_run,
        )
    accepted = [answer for answer in answers if answer.refusal is None]
    if accepted and not dry_run and not _ring(settings):
        note("Redis was not told; a worker takes them from PostgreSQL within seconds")
    if as_json:
        print_json([{**asdict(answer), "dry_run": dry_run} for answer in answers])
    else:
        _show(answers, dry_run=dry_run)
    ctx.exit(0 if len(accepted) == len(answers) else 1)


def _ring(settings: Settings) -> bool:
    from signalpost.broker import Broker

    broker = Broker(settings.redis_url)
    try:
        return broker.ring()
    finally:
        broker.close()


def _show(answers: Sequence[Replay], *, dry_run: bool) -> None:
    done = "would be replayed" if dry_run else "replayed"
    table(
        ("delivery", "instrument", "side", "endpoint", "was", "result", "expires"),
        [
            (
                answer.delivery_id,
                answer.instrument,
                answer.side,
                answer.endpoint,
                answer.status,
                answer.refusal or done,
                utc(answer.expires_at),
            )
            for answer in answers
        ],
        empty="",
    )
