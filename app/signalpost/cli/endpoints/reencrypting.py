"""`signalpost endpoint reencrypt`."""

from __future__ import annotations

from pathlib import Path

import click

from signalpost.cli.endpoints.group import endpoint, reason_option, secret_box
from signalpost.cli.joining import (
    actor,
    examples,
    find_settings,
    json_option,
    open_engine,
    shared_options,
)
from signalpost.cli.printing import note, print_json

__all__ = ["reencrypt_command"]


@endpoint.command(
    "reencrypt",
    epilog=examples(
        "signalpost endpoint reencrypt --dry-run",
        'signalpost endpoint reencrypt --reason "yearly new key"',
    ),
)
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be.")
@reason_option
@json_option
@shared_options
@click.pass_context
def reencrypt_command(
    ctx: click.Context, *, dry_run: bool, reason: str, as_json: bool, data: Path | None
) -> None:
    """Encrypt all stored secrets and extra headers by the first of SECRET_KEYS; old keys may go.

    First give every worker and every command the new key before the old ones, SECRET_KEYS=new,old,
    and start the workers again; then run this, and take the old keys away. The secrets themselves
    stay, so receivers notice nothing, and workers may run meanwhile. The exit code is 1 where a
    secret that is needed cannot be read.
    """
    from signalpost.repository.reencrypting import all_endpoint_ids, reencrypt

    settings = find_settings(data, quiet=as_json)
    box = secret_box(settings)
    found = []
    with open_engine(settings) as engine:
        with engine.connect() as conn:
            ids = all_endpoint_ids(conn)
        for endpoint_id in ids:
            with engine.begin() as conn:
                one = reencrypt(conn, endpoint_id, box, actor=actor(), why=reason, dry_run=dry_run)
            if one is not None:
                found.append(one)
    changed = [one.name for one in found if one.changed]
    unreadable = [one.name for one in found if not one.readable]
    current = len(found) - len(changed) - len(unreadable)
    if as_json:
        told = {"reencrypted": changed, "current": current, "unreadable": unreadable}
        print_json({**told, "dry_run": dry_run})
    else:
        would = "would be encrypted" if dry_run else "encrypted"
        click.echo(f"{len(changed)} {would} anew with the first key, {current} were so already")
        if unreadable:
            note(
                f"{len(unreadable)} cannot be read with any of SECRET_KEYS: "
                f"{', '.join(unreadable)}; add the key that they were encrypted with, or give "
                "them new secrets by `signalpost endpoint rotate-secret NAME --grace 0`"
            )
    ctx.exit(1 if unreadable else 0)
