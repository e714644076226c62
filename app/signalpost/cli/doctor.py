"""`signalpost doctor`: everything that a delivery needs, looked at."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signalpost.cli.joining import examples, find_settings, json_option, shared_options
from signalpost.cli.printing import print_json, printable
from signalpost.errors import SettingError

if TYPE_CHECKING:
    from signalpost.doctor.findings import Finding

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "red", "skipped": "bright_black"}


@click.command(
    epilog=examples("signalpost doctor", "signalpost doctor --post", "signalpost doctor --json")
)
@click.option(
    "--post",
    is_flag=True,
    help="Also post a signed test to every endpoint: `endpoint test` says what that is.",
)
@json_option
@shared_options
@click.pass_context
def doctor(ctx: click.Context, *, post: bool, as_json: bool, data: Path | None) -> None:
    """Look at everything that a delivery needs, from this machine, and say what to do.

    Settings, database, tables, clock, secrets, workers, what waits, Redis, Telegram, disk, and the
    way to each endpoint: DNS, TCP and TLS. Without --post nothing is posted to anybody. The exit
    code is 1 where anything is a failure.
    """
    findings = _examined(data, post=post)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _show(findings)
    ctx.exit(1 if any(finding.state == "failure" for finding in findings) else 0)


def _examined(data: Path | None, *, post: bool) -> list[Finding]:
    from signalpost.doctor.examination import examine, without_settings

    try:
        settings = find_settings(data, quiet=True)
    except SettingError as error:
        return without_settings(str(error))
    return asyncio.run(examine(settings, post=post))


def _show(findings: Sequence[Finding]) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        state = click.style(f"{finding.state:<8}", fg=_COLOURS[finding.state])
        click.echo(f"{state} {printable(finding.check):<{width}}  {printable(finding.line)}")
    counts = Counter(finding.state.value for finding in findings)
    told = ", ".join(f"{counts[state]} {state}" for state in _COLOURS if counts[state])
    click.echo(f"\n{told}")
