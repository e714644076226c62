"""`signalpost endpoint`: receivers are added, listed, shown."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from signalpost.cli import values
from signalpost.cli.joining import (
    actor,
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import facts, note, print_json, table, utc

if TYPE_CHECKING:
    from signalpost.repository.endpoints import EndpointView
    from signalpost.settings import Settings

__all__ = ["endpoint", "given_secret", "secret_options"]


def secret_options(command: Any) -> Any:
    """How a secret comes in: from a file or from standard input, never as an argument."""
    file = click.option(
        "--secret-file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Read the secret from this file.",
    )
    stdin = click.option("--secret-stdin", is_flag=True, help="Read the secret from stdin.")
    return file(stdin(command))


def given_secret(secret_file: Path | None, secret_stdin: bool) -> str | None:
    """The secret as it was handed over, without the line's end; None where there was none."""
    if secret_file is not None and secret_stdin:
        raise click.UsageError("--secret-file and --secret-stdin exclude each other")
    try:
        if secret_file is not None:
            return secret_file.read_text(encoding="utf-8").strip("\r\n")
        if secret_stdin:
            return sys.stdin.readline().strip("\r\n")
    except UnicodeDecodeError:
        raise click.ClickException("the secret is not text in UTF-8") from None
    return None


@click.group(short_help="Endpoints: add, list, show.")
def endpoint() -> None:
    """Endpoints: the receivers' URLs, each with its secret and its policy."""


@endpoint.command(
    "add",
    epilog=examples(
        "signalpost endpoint add broker https://broker.example/signals",
        "signalpost endpoint add desk https://desk.example/in --secret-file desk.secret --ttl 2m",
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
) -> None:
    """Add a receiver; without a secret of yours, one is made and shown this once.

    SPAN is a number of seconds, or such as 500ms, 2s, 5m. What is not given is the settings'.
    """
    from signalpost.repository import endpoints
    from signalpost.secretbox import SecretBox

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
    )
    with transaction(settings) as conn:
        view = endpoints.add_endpoint(
            conn, new, settings, SecretBox(settings.secret_keys), actor=actor()
        )
    if as_json:
        print_json({**_public(view), **({"secret": secret} if given is None else {})})
        return
    click.echo(f"endpoint {view.name} added: {view.url}")
    if given is None:
        click.echo(f"its secret, for the receiver: {secret}")
        note(f"shown this once; `signalpost endpoint show {view.name} --reveal-secret` has it too")


@endpoint.command("list", epilog=examples("signalpost endpoint list --json"))
@json_option
@shared_options
def list_command(*, as_json: bool, data: Path | None) -> None:
    """List the endpoints."""
    from signalpost.repository import endpoints

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        views = endpoints.list_endpoints(conn)
    if as_json:
        print_json([_public(view) for view in views])
        return
    table(
        ("name", "url", "timeout", "retries", "delay", "ttl", "unknown", "added"),
        [
            (
                view.name,
                view.url,
                _seconds(view.timeout_seconds, settings.outbound_timeout_seconds),
                _own(view.max_retries, settings.max_retries),
                _seconds(view.retry_delay_seconds, settings.retry_delay_seconds),
                _seconds(view.ttl_seconds, settings.signal_ttl_seconds),
                view.on_unknown,
                utc(view.created_at),
            )
            for view in views
        ],
        empty="no endpoints; add one: signalpost endpoint add NAME URL",
    )


@endpoint.command("show", epilog=examples("signalpost endpoint show broker --reveal-secret"))
@click.argument("name")
@click.option(
    "--reveal-secret",
    is_flag=True,
    help="Also print the secret, in the whsec_ form of Standard Webhooks libraries.",
)
@json_option
@shared_options
def show_command(*, name: str, reveal_secret: bool, as_json: bool, data: Path | None) -> None:
    """Show one endpoint and the policy that holds for it."""
    from signalpost.repository import endpoints

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        view = endpoints.get_endpoint(conn, name)
        secret = (
            _whsec(endpoints.reveal_secret(conn, name, _box(settings))) if reveal_secret else ""
        )
    if as_json:
        print_json({**_public(view), **({"secret": secret} if reveal_secret else {})})
        return
    facts(
        (
            ("name", view.name),
            ("url", view.url),
            ("secret", secret or f"version {view.secret_version} (--reveal-secret shows it)"),
            ("timeout", _seconds(view.timeout_seconds, settings.outbound_timeout_seconds)),
            ("retries", _own(view.max_retries, settings.max_retries)),
            ("retry delay", _seconds(view.retry_delay_seconds, settings.retry_delay_seconds)),
            ("ttl", _seconds(view.ttl_seconds, settings.signal_ttl_seconds)),
            ("on unknown", view.on_unknown),
            ("added", utc(view.created_at)),
        )
    )


def _public(view: EndpointView) -> dict[str, Any]:
    # By name, so that a column that is added one day does not slip out.
    shown = asdict(view)
    return {name: shown[name] for name in _PUBLIC}


_PUBLIC = (
    "id",
    "name",
    "url",
    "secret_version",
    "timeout_seconds",
    "max_retries",
    "retry_delay_seconds",
    "ttl_seconds",
    "on_unknown",
    "created_at",
)


def _box(settings: Settings) -> Any:
    from signalpost.secretbox import SecretBox

    return SecretBox(settings.secret_keys)


def _whsec(secret: str) -> str:
    from signalpost.core.signing import secret_bytes, standard_webhooks_secret

    return standard_webhooks_secret(secret_bytes(secret))


def _seconds(own: float | None, common: float) -> str:
    return f"{own:g} s" if own is not None else f"{common:g} s (settings)"


def _own(own: int | None, common: int) -> str:
    return str(own) if own is not None else f"{common} (settings)"
