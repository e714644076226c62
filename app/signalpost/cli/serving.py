"""Commands that serve until they are told to end: `worker`, `receiver`, `demo`."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import click

from signalpost.cli import values
from signalpost.cli.completing import endpoint_names
from signalpost.cli.endpoints import given_secret, secret_options
from signalpost.cli.joining import (
    data_option,
    debug_option,
    examples,
    find_settings,
    shared_options,
    transaction,
)
from signalpost.cli.printing import note
from signalpost.cli.roles import ROLES, Role, celery_argv, flower_environment
from signalpost.cli.starting import check_port, check_start

__all__ = ["demo", "receiver", "worker"]


@click.command(epilog=examples("signalpost demo", "signalpost demo --keep"))
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A new or empty folder for its servers, which stays; else a temporary one.",
)
@click.option("--keep", is_flag=True, help="Leave everything running at the end, until Ctrl-C.")
@debug_option
@click.pass_context
def demo(ctx: click.Context, *, data: Path | None, keep: bool) -> None:
    """See it all at work in a minute, on servers of its own.

    A strategy's signals are enqueued, signed, delivered, retried, given up and alerted; nothing
    of this machine's is used. The exit code is 1 where the two sides do not agree at the end.
    """
    from signalpost.demo.run import run_demo

    ctx.exit(run_demo(data=data, keep=keep))


@click.command(
    epilog=examples(
        "signalpost worker --role deliver",
        "signalpost worker --role ops",
        "FLOWER_BASIC_AUTH=me:password signalpost worker --role flower",
    )
)
@click.option("--role", type=click.Choice(ROLES), default="deliver", show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Threads of a worker.")
@shared_options
def worker(*, role: Role, concurrency: int | None, data: Path | None) -> NoReturn:
    """Run one process of the stack, until Ctrl-C or SIGTERM.

    deliver sends, as many of them as there are processors; ops sends alerts and cleans up; beat
    keeps the time for ops, exactly one of them; flower shows the tasks in a browser.
    """
    if concurrency is not None and role not in ("deliver", "ops"):
        raise click.UsageError(f"--concurrency is not for the role {role}")
    settings = find_settings(data)
    check_start(settings, role)
    environment = dict(os.environ)
    if data is not None:
        environment["SIGNALPOST_DATA_DIR"] = str(data.expanduser().resolve())
    if role == "flower":
        environment = {**_flower(data), **environment}
        check_port(environment)
        note(f"Flower on port {environment['FLOWER_PORT']} of {environment['FLOWER_ADDRESS']}")
    argv = celery_argv(role, concurrency=concurrency)
    sys.stdout.flush()
    # In this very process, so that a supervisor's signals and exit codes are Celery's own.
    os.execve(argv[0], argv, environment)  # noqa: S606  no shell is wanted


def _flower(data: Path | None) -> dict[str, str]:
    """Flower's environment where the operator's own does not say otherwise."""
    from signalpost.embedded import read_stack

    user, password = "signalpost", secrets.token_urlsafe(12)
    stack = read_stack(data) if data is not None else None
    if stack is not None:
        user, password = stack.flower_user, stack.flower_password
    elif not os.environ.get("FLOWER_BASIC_AUTH"):
        note(f"Flower's user is {user}, its password for this run {password}")
    return dict(flower_environment(user, password))


@click.command(
    epilog=examples(
        "signalpost receiver --port 9000",
        "signalpost receiver --endpoint local --fail 3 --status 503",
        "signalpost receiver --secret-file desk.secret --delay 2s --drop --fail-rate 0.1",
    )
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="To listen on; else that of the endpoint's URL, if it leads to this machine, else 8000.",
)
@secret_options
@click.option(
    "--endpoint",
    metavar="NAME",
    shell_complete=endpoint_names,
    help="Use the secret and the URL of this endpoint.",
)
@click.option(
    "--profile",
    type=click.Choice(["rfc9421", "standard", "canonical"]),
    default="rfc9421",
    show_default=True,
    help="The signature to require.",
)
@click.option("--public-url", metavar="URL", help="What the sender posts to, behind a proxy.")
@click.option(
    "--book",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Remember deliveries here; else only until the end.",
)
@click.option("--fail", type=click.IntRange(0), default=0, help="The first N requests go wrong.")
@click.option("--fail-rate", type=click.FloatRange(0, 1), default=0.0, help="This share does.")
@click.option(
    "--status", type=click.IntRange(200, 599), help="Going wrong is this answer (503 by default)."
)
@click.option(
    "--drop", is_flag=True, help="Going wrong is acting, then cutting the connection unanswered."
)
@click.option("--delay", type=values.span, default="0", metavar="SPAN", help="Before each answer.")
@data_option
@debug_option
def receiver(
    *,
    port: int | None,
    secret_file: Path | None,
    secret_stdin: bool,
    endpoint: str | None,
    profile: str,
    public_url: str | None,
    book: Path | None,
    fail: int,
    fail_rate: float,
    status: int | None,
    drop: bool,
    delay: float,
    data: Path | None,
) -> None:
    """Run a local server that verifies and dedupes what arrives, until Ctrl-C.

    It is the receiver kit, and can be told to misbehave. Without a secret one is made. Without
    --fail and --fail-rate, --status and --drop apply to every request.
    """
    if status is not None and drop:
        raise click.UsageError("--status and --drop exclude each other")
    from signalpost.cli.listening import Manners, Post, listen

    secret = given_secret(secret_file, secret_stdin)
    secrets: tuple[str, ...] = () if secret is None else (secret,)
    if endpoint is not None:
        if secrets:
            raise click.UsageError("--endpoint brings its own secret")
        secrets, url = _of_endpoint(endpoint, data)
        public_url = public_url or url
        own = _local_port(url)
        if own is not None and port not in (None, 0, own):
            note(
                f"what is sent to {url} goes to port {own}, not to {port}; "
                f"`signalpost endpoint set {endpoint} --url URL` changes that"
            )
        port = own if port is None else port
    manners = Manners(fail, fail_rate, status, drop, delay)
    listen(Post(8000 if port is None else port, secrets, profile, public_url, book), manners)


def _local_port(url: str) -> int | None:
    """The port that an endpoint's URL names on this machine; None where it leads elsewhere."""
    parts = urlsplit(url)
    here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")
    return (parts.port or 80) if here else None


def _of_endpoint(name: str, data: Path | None) -> tuple[tuple[str, ...], str]:
    from signalpost.repository.endpoints import get_endpoint
    from signalpost.repository.rotation import valid_secrets
    from signalpost.secretbox import SecretBox

    settings = find_settings(data)
    with transaction(settings) as conn:
        found = valid_secrets(conn, name, SecretBox(settings.secret_keys))
        return found, get_endpoint(conn, name).url
