"""`signalpost audit list`: who did what, when and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from signalpost.cli import values
from signalpost.cli.completing import endpoint_names
from signalpost.cli.deliveries import one_delivery
from signalpost.cli.joining import (
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import note, print_json, table, utc
from signalpost.cli.trail import changed
from signalpost.core.acts import ACTS

__all__ = ["audit"]


@click.group(short_help="The audit trail: who did what, when and why.")
def audit() -> None:
    """The audit trail: every act of a person, of the settings and of a breaker."""


@audit.command(
    "list",
    epilog=examples(
        "signalpost audit list --since 1d",
        "signalpost audit list --endpoint desk --kind 'endpoint changed' --json",
        "signalpost audit list --delivery 4f1c9a52",
    ),
)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(ACTS), metavar="KIND")
@click.option(
    "--endpoint",
    metavar="NAME",
    shell_complete=endpoint_names,
    help="Only what was done to this endpoint, itself.",
)
@click.option(
    "--delivery", type=values.id_range, metavar="ID", help="Only what was done to this delivery."
)
@click.option(
    "--since",
    type=values.moment,
    metavar="TIME",
    help="Only since: 10m, 2h, 1d, or a time with its zone.",
)
@click.option(
    "--before",
    type=click.IntRange(1, 2**63 - 1),
    metavar="NUMBER",
    help="Only older ones: the next page.",
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=200, show_default=True)
@json_option
@shared_options
def list_command(
    *,
    kinds: Sequence[str],
    endpoint: str | None,
    delivery: values.IdRange | None,
    since: datetime | None,
    before: int | None,
    limit: int,
    as_json: bool,
    data: Path | None,
) -> None:
    """List acts, the newest first: who, when, what, why, and what changed.

    KIND is what was done: 'paused', 'resumed', 'replay', 'cancel', 'skip', 'resend', 'breaker
    opened', 'breaker closed', 'endpoint added', 'endpoint changed', 'endpoint removed', 'endpoint
    secret rotated', 'endpoint secret rotation finished' or 'endpoint secret reencrypted'; again for
    more.
    """
    from signalpost.repository.auditing import list_audit

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        found = list_audit(
            conn,
            kinds=kinds,
            endpoint=endpoint,
            delivery_id=None if delivery is None else one_delivery(conn, delivery),
            since=since,
            before=before,
            limit=limit,
        )
    if as_json:
        print_json([asdict(line) for line in found])
        return
    table(
        ("number", "when", "who", "what", "to", "why", "change"),
        [
            (line.id, utc(line.at), line.actor, line.action, line.subject, line.why, changed(line))
            for line in found
        ],
        empty="nothing was done that these options mean",
    )
    if len(found) == limit:
        note(f"older ones: the same command with --before {found[-1].id}")
