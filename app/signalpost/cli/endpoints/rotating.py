"""`signalpost endpoint rotate-secret`."""

from __future__ import annotations

from pathlib import Path

import click

from signalpost.cli import values
from signalpost.cli.completing import endpoint_names
from signalpost.cli.endpoints.describing import public, secret_line
from signalpost.cli.endpoints.group import (
    endpoint,
    given_secret,
    reason_option,
    secret_box,
    secret_options,
)
from signalpost.cli.joining import (
    actor,
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import note, print_json

__all__ = ["rotate_secret_command"]


@endpoint.command(
    "rotate-secret",
    epilog=examples(
        "signalpost endpoint rotate-secret desk --grace 2d",
        "signalpost endpoint rotate-secret desk --finish",
        "signalpost endpoint rotate-secret desk --secret-file new.secret --grace 0",
    ),
)
@click.argument("name", shell_complete=endpoint_names)
@secret_options
@click.option(
    "--grace",
    type=values.span,
    metavar="SPAN",
    help="How long the old secret signs as well; 1d by default, 0 ends it at once.",
)
@click.option("--finish", is_flag=True, help="End the grace window now: only the new one signs.")
@reason_option
@json_option
@shared_options
def rotate_secret_command(
    *,
    name: str,
    secret_file: Path | None,
    secret_stdin: bool,
    grace: float | None,
    finish: bool,
    reason: str,
    as_json: bool,
    data: Path | None,
) -> None:
    """Replace an endpoint's secret; without one of yours, one is made and shown this once.

    Until the grace window ends, RFC 9421 and Standard Webhooks signatures are made with both
    secrets, the canonical one still with the old. Give the receiver the new secret, then --finish.
    It counts from the next attempt on, in every worker, without a restart.
    """
    from signalpost.repository import endpoints
    from signalpost.repository.reading import database_time
    from signalpost.repository.rotation import finish_rotation, rotate_secret

    given = given_secret(secret_file, secret_stdin)
    if finish and (given is not None or grace is not None):
        raise click.UsageError("--finish takes neither a secret nor --grace")
    secret = endpoints.new_secret() if given is None else given
    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        if finish:
            view = finish_rotation(conn, name, actor=actor(), why=reason)
        else:
            view = rotate_secret(
                conn,
                name,
                secret,
                secret_box(settings),
                grace_seconds=86_400.0 if grace is None else grace,
                actor=actor(),
                why=reason,
            )
        now = database_time(conn)
    made = given is None and not finish
    if as_json:
        print_json({**public(view, now), **({"secret": secret} if made else {})})
    else:
        click.echo(f"endpoint {name}: {secret_line(view, now)}")
        if made:
            click.echo(f"its new secret, for the receiver: {secret}")
        if view.rotates(now):
            note(
                "to see whether the receiver has it: "
                f"signalpost endpoint test {name} --new; then: "
                f"signalpost endpoint rotate-secret {name} --finish"
            )
    if name == endpoints.DEFAULT_NAME and settings.outbound_server_url and not finish:
        note(
            "set HMAC_PRODUCER_SECRET to the new one before the window ends; "
            "else the next start of a worker brings the old one back"
        )
