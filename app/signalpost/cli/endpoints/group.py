"""The group `signalpost endpoint`, and what its commands share: how a secret and a reason come."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from signalpost.secretbox import SecretBox
    from signalpost.settings import Settings

__all__ = ["endpoint", "given_secret", "reason_option", "secret_box", "secret_options"]

reason_option = click.option("--reason", default="", help="Why, for the audit trail.")


@click.group(short_help="Endpoints: add, show, set, pause, test, rotate-secret, remove.")
def endpoint() -> None:
    """Endpoints: the receivers' URLs, each with its secret and its policy."""


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
        raise click.ClickException("the secret is not text in UTF-8; write it anew") from None
    except OSError as error:
        raise click.ClickException(
            f"the secret's file {secret_file} cannot be read: {error.strerror}"
        ) from None
    return None


def secret_box(settings: Settings) -> SecretBox:
    """What encrypts and decrypts secrets with these settings' keys."""
    from signalpost.secretbox import SecretBox

    return SecretBox(settings.secret_keys)
