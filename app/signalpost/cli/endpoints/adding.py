"""`signalpost endpoint add`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from signalpost.cli import values
from signalpost.cli.endpoints.describing import public
from signalpost.cli.endpoints.group import endpoint, given_secret, secret_box, secret_options
from signalpost.cli.endpoints.policy import given_headers, given_policy, policy_options
from signalpost.cli.joining import (
    actor,
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import note, print_json

__all__ = ["add"]


@endpoint.command(
    "add",
    epilog=examples(
        "signalpost endpoint add broker https://broker.example/signals",
        "signalpost endpoint add desk https://desk.example/in --secret-file desk.secret --ttl 2m",
        "signalpost endpoint add fx https://fx.example/in --instrument 'EUR*' --ordered --rate 50",
    ),
)
@click.argument("name")
@click.argument("url")
@secret_options
@click.option("--timeout", type=values.span, metavar="SPAN", help="Of one attempt: 5s to 300s.")
@click.option("--max-retries", type=int, metavar="N", help="Retries after the first attempt.")
@click.option("--retry-delay", type=values.span, metavar="SPAN", help="Before the first retry.")
@click.option("--ttl", type=values.span, metavar="SPAN", help="How long its signals live.")
@click.option(
    "--on-unknown",
    type=click.Choice(["retry", "stop"]),
    default="retry",
    show_default=True,
    help="Where nobody can tell whether the receiver got it.",
)
@policy_options
@json_option
@shared_options
def add(
    *,
    name: str,
    url: str,
    secret_file: Path | None,
    secret_stdin: bool,
    timeout: float | None,
    max_retries: int | None,
    retry_delay: float | None,
    ttl: float | None,
    on_unknown: Literal["retry", "stop"],
    as_json: bool,
    data: Path | None,
    **policy: Any,
) -> None:
    """Add a receiver; without a secret of yours, one is made and shown this once.

    SPAN is a number of seconds, or such as 500ms, 2s, 5m. What is not given is the settings'.
    Each filter may be given several times; a signal must pass every kind of filter that is set.
    """
    from signalpost.repository import endpoints

    given = given_secret(secret_file, secret_stdin)
    secret = endpoints.new_secret() if given is None else given
    settings = find_settings(data, quiet=as_json)
    new = endpoints.NewEndpoint(
        name=name,
        url=url,
        secret=secret,
        timeout_seconds=timeout,
        max_retries=max_retries,
        retry_delay_seconds=retry_delay,
        ttl_seconds=ttl,
        on_unknown=on_unknown,
        headers=given_headers(policy),
        **given_policy(policy),
    )
    with transaction(settings) as conn:
        view = endpoints.add_endpoint(conn, new, settings, secret_box(settings), actor=actor())
    if as_json:
        told = public(view, view.created_at)
        print_json({**told, **({"secret": secret} if given is None else {})})
        return
    click.echo(f"endpoint {view.name} added: {view.url}")
    if given is None:
        click.echo(f"its secret, for the receiver: {secret}")
        note(f"shown this once; `signalpost endpoint show {view.name} --reveal-secret` has it too")
