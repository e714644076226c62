"""`signalpost skip`: a dead delivery of an ordered endpoint holds up those behind it no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from signalpost.cli import values
from signalpost.cli.choosing import be_sure, yes_option
from signalpost.cli.completing import endpoint_names
from signalpost.cli.deliveries import one_delivery
from signalpost.cli.joining import (
    actor,
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import note, print_json, table

__all__ = ["skip"]


@click.command(
    epilog=examples(
        "signalpost skip --dry-run",
        "signalpost skip 4f1c9a52 --reason 'closed by hand'",
        "signalpost skip --endpoint desk --reason 'flat since Monday'",
    )
)
@click.argument("deliveries", type=values.chosen_id, nargs=-1, metavar="[ID...]")
@click.option(
    "--endpoint", metavar="NAME", shell_complete=endpoint_names, help="All that block there."
)
@click.option("--reason", default="", help="Why, for the audit trail.")
@click.option("--dry-run", is_flag=True, help="Only show what blocks, and how many wait behind it.")
@yes_option
@json_option
@shared_options
@click.pass_context
def skip(
    ctx: click.Context,
    *,
    deliveries: Sequence[values.IdRange],
    endpoint: str | None,
    reason: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    data: Path | None,
) -> None:
    """Let those go that wait behind a dead delivery of an ordered endpoint (--on-dead block).

    The dead one stays dead and is not sent; its place in the sequence stays empty. `replay` sends
    it instead, before the others. The exit code is 1 where an id holds up nobody.
    """
    from signalpost.broker import Broker
    from signalpost.repository.endpoints import get_endpoint
    from signalpost.repository.skipping import blocking
    from signalpost.repository.skipping import skip as let_go

    if bool(deliveries) + (endpoint is not None) != 1 and not dry_run:
        raise click.UsageError("say which: by ids, or by --endpoint NAME; --dry-run shows all")
    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        wanted = [one_delivery(conn, one) for one in deliveries] or None
        if endpoint is not None:
            get_endpoint(conn, endpoint)
        found = blocking(conn, wanted, endpoint=endpoint)
    if found and not dry_run:
        # Outside a transaction, which a person must not keep open; what is let go is found anew.
        be_sure(len(found), "skipped", yes=yes)
        with transaction(settings) as conn:
            ids = [one.delivery_id for one in found]
            found = let_go(conn, ids, actor=actor(), why=reason)
    if found and not dry_run:
        broker = Broker(settings.redis_url)
        broker.ring()
        broker.close()
    if as_json:
        print_json([{**asdict(one), "dry_run": dry_run} for one in found])
    else:
        table(
            ("delivery", "endpoint", "ordering key", "waiting behind it"),
            [(one.delivery_id, one.endpoint, one.ordering_key, one.waiting) for one in found],
            empty="no dead delivery holds up others here",
        )
        if dry_run:
            note("nothing was changed: this was a dry run")
    ctx.exit(1 if len(found) < len(deliveries) else 0)
