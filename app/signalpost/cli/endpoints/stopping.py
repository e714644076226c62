"""`signalpost endpoint pause` and `resume`: the kill switch, for one receiver."""

from __future__ import annotations

from pathlib import Path

import click

from signalpost.cli.completing import endpoint_names
from signalpost.cli.endpoints.group import endpoint, reason_option
from signalpost.cli.joining import examples, json_option, shared_options
from signalpost.cli.pausing import pause, resume

__all__ = ["pause_command", "resume_command"]


@endpoint.command(
    "pause", epilog=examples("signalpost endpoint pause desk --reason 'the desk is moving'")
)
@click.argument("name", shell_complete=endpoint_names)
@click.option("--entries-only", is_flag=True, help="Let exits (priority high) through.")
@reason_option
@json_option
@shared_options
@click.pass_context
def pause_command(
    ctx: click.Context,
    *,
    name: str,
    entries_only: bool,
    reason: str,
    as_json: bool,
    data: Path | None,
) -> None:
    """Stop sending to an endpoint within a second; the same as `pause --endpoint NAME`.

    Its deliveries wait, also those that are enqueued from now on, and expire when their life ends.
    """
    ctx.invoke(
        pause,
        endpoint=name,
        producer=None,
        instrument=None,
        entries_only=entries_only,
        reason=reason,
        as_json=as_json,
        data=data,
    )


@endpoint.command(
    "resume",
    epilog=examples(
        "signalpost endpoint resume desk --yes", "signalpost endpoint resume desk --drop"
    ),
)
@click.argument("name", shell_complete=endpoint_names)
@click.option("--yes", is_flag=True, help="Send what waits, in order, slowly at first.")
@click.option("--drop", is_flag=True, help="Cancel what waits instead.")
@reason_option
@json_option
@shared_options
@click.pass_context
def resume_command(
    ctx: click.Context,
    *,
    name: str,
    yes: bool,
    drop: bool,
    reason: str,
    as_json: bool,
    data: Path | None,
) -> None:
    """Send to a paused endpoint again; the same as `resume --endpoint NAME`.

    Says first how much would go out, and how old it is.
    """
    ctx.invoke(
        resume,
        endpoint=name,
        producer=None,
        instrument=None,
        yes=yes,
        drop=drop,
        reason=reason,
        as_json=as_json,
        data=data,
    )
