"""`signalpost migrate`: the outbox's tables are made, or brought to this release."""

from __future__ import annotations

from pathlib import Path

import click

from signalpost.cli.joining import examples, find_settings, json_option, shared_options
from signalpost.cli.printing import print_json

__all__ = ["migrate"]


@click.command(epilog=examples("signalpost migrate", "signalpost migrate --json"))
@json_option
@shared_options
def migrate(*, as_json: bool, data: Path | None) -> None:
    """Make the tables, or bring them to this release.

    Any number of processes may do this at once. Everything lives in the schema `signalpost`, so
    the database may be one that other programs use.
    """
    from signalpost.database import migrate as bring_up
    from signalpost.database import sync_engine
    from signalpost.repository.reading import schema_revision

    settings = find_settings(data, quiet=as_json)
    engine = sync_engine(settings.database_url)
    try:
        with engine.connect() as conn:
            before = schema_revision(conn)
        bring_up(settings.database_url)
        with engine.connect() as conn:
            after = schema_revision(conn)
    finally:
        engine.dispose()
    if as_json:
        print_json({"before": before, "after": after})
    elif before == after:
        click.echo(f"the tables are at revision {after}; nothing to do")
    else:
        click.echo(f"the tables went from {before or 'nothing'} to revision {after}")
