"""`signalpost endpoint test`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from signalpost.cli.completing import endpoint_names
from signalpost.cli.endpoints.group import endpoint, secret_box
from signalpost.cli.joining import (
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import facts, print_json

if TYPE_CHECKING:
    from signalpost.core.outcomes import Answer
    from signalpost.doctor.receivers import Reached
    from signalpost.repository.endpoints import EndpointView
    from signalpost.settings import Settings

__all__ = ["test_command"]


@endpoint.command(
    "test", epilog=examples("signalpost endpoint test desk", "signalpost endpoint test desk --new")
)
@click.argument("name", shell_complete=endpoint_names)
@click.option(
    "--new",
    "only_new",
    is_flag=True,
    help="While its secret rotates: sign with the new one alone, to see whether it is taken.",
)
@json_option
@shared_options
@click.pass_context
def test_command(
    ctx: click.Context, *, name: str, only_new: bool, as_json: bool, data: Path | None
) -> None:
    """Post a signed test to an endpoint, from this machine, and say what the answer means.

    The test is no signal: it has no instrument, no side and no price, expired in 1970, and says so
    in its body. A receiver refuses it with 422 once it has verified it; the receiver kit answers
    200 and does nothing. The exit code is 1 where deliveries would fail.
    """
    from signalpost.doctor.findings import State
    from signalpost.doctor.meanings import of_answer, of_certificate
    from signalpost.repository.endpoints import get_endpoint
    from signalpost.repository.reading import database_time

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        view, now = get_endpoint(conn, name), database_time(conn)
    reached = asyncio.run(_post(view, settings, now, only_new=only_new))
    answer, wall = reached.answer, datetime.now(UTC)
    finding = of_certificate(of_answer(name, answer, now=wall), reached.certificate_end, now=wall)
    if as_json:
        print_json({**asdict(finding), "url": view.url, **_shown(answer)})
    else:
        facts(
            (
                ("endpoint", f"{name}  {view.url}"),
                ("status", answer.status_code),
                ("error", answer.failure),
                ("phase", answer.phase),
                ("took", f"{answer.duration_seconds:.3f} s"),
                (str(finding.state), finding.line),
            )
        )
    ctx.exit(1 if finding.state is State.FAILURE else 0)


async def _post(
    view: EndpointView, settings: Settings, now: datetime, *, only_new: bool
) -> Reached:
    from signalpost.doctor.receivers import receivers

    async with receivers(settings) as tried:
        return await tried.post(
            view, secret_box(settings), now=now, timeout_seconds=None, only_new=only_new
        )


def _shown(answer: Answer) -> dict[str, Any]:
    return {
        "status_code": answer.status_code,
        "failure": answer.failure,
        "phase": answer.phase,
        "duration_seconds": round(answer.duration_seconds, 3),
    }
