"""`signalpost health`: ask a worker of this machine whether it is well, for whoever restarts it."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from signalpost.cli.joining import examples, find_settings, json_option, shared_options
from signalpost.cli.printing import print_json
from signalpost.errors import SettingError

if TYPE_CHECKING:
    from signalpost.settings import Settings

__all__ = ["health"]

_ANSWER_SECONDS = 8.0


@click.command(
    epilog=examples(
        "signalpost health                    # the worker with PROCESS_INDEX 0",
        "PROCESS_INDEX=1 signalpost health    # another one of this machine",
    )
)
@json_option
@shared_options
@click.pass_context
def health(ctx: click.Context, *, as_json: bool, data: Path | None) -> None:
    """Ask a worker of this machine whether it is well.

    Looks at /healthz on METRICS_PORT plus PROCESS_INDEX. The exit code is 1 where the worker does
    not answer, its engine or its consumer is stuck, or deliveries are overdue.
    """
    url = _url(find_settings(data, servers=False))
    found = _ask(url)
    if as_json:
        print_json(found)
    else:
        for line in found["troubles"] or ["well"]:
            click.echo(line)
    ctx.exit(int(not found["healthy"]))


def _url(settings: Settings) -> str:
    if settings.metrics_port is None:
        raise SettingError("METRICS_PORT is not set; give it to the worker and to this command")
    address = ip_address(settings.metrics_address)
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    host = str(address) if address.version == 4 else f"[{address}]"
    return f"http://{host}:{settings.metrics_port + settings.process_index}/healthz"


def _ask(url: str) -> dict[str, Any]:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    opener = build_opener(ProxyHandler({}))
    try:
        try:
            answer = opener.open(url, timeout=_ANSWER_SECONDS)
        except HTTPError as not_well:
            answer = not_well
        with answer:
            found = json.load(answer)
            # Whoever else answers there is no worker, whatever it says.
            return {"healthy": found["healthy"] is True, "troubles": list(found["troubles"])}
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return {"healthy": False, "troubles": [f"no worker answers at {url}"]}
