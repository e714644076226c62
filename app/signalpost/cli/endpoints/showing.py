"""`signalpost endpoint list` and `show`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signalpost.cli.completing import endpoint_names
from signalpost.cli.endpoints.describing import policy_facts, policy_row, public, secret_line
from signalpost.cli.endpoints.group import endpoint, secret_box
from signalpost.cli.hindering import breaker_line, held_line, pause_line, state_of
from signalpost.cli.joining import (
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import facts, print_json, table, utc
from signalpost.cli.trail import tell_trail

if TYPE_CHECKING:
    from signalpost.repository.hindrances import Hindrances, StandingPause

__all__ = ["list_command", "show_command"]


@endpoint.command("list", epilog=examples("signalpost endpoint list --json"))
@json_option
@shared_options
def list_command(*, as_json: bool, data: Path | None) -> None:
    """List the endpoints."""
    from signalpost.repository import endpoints
    from signalpost.repository.hindrances import hindrances
    from signalpost.repository.reading import database_time

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        views = endpoints.list_endpoints(conn)
        now = database_time(conn)
        found = hindrances(conn)
    if as_json:
        print_json([{**public(view, now), "state": state_of(view.name, found)} for view in views])
        return
    table(
        (
            *("name", "url", "timeout", "retries", "delay", "ttl", "unknown", "takes", "order"),
            *("secret", "added", "state"),
        ),
        [
            (
                view.name,
                view.url,
                *policy_row(view, settings),
                f"{view.secret_version - 1} and {view.secret_version}"
                if view.rotates(now)
                else view.secret_version,
                utc(view.created_at),
                state_of(view.name, found),
            )
            for view in views
        ],
        empty="no endpoints; add one: signalpost endpoint add NAME URL",
    )


@endpoint.command("show", epilog=examples("signalpost endpoint show broker --reveal-secret"))
@click.argument("name", shell_complete=endpoint_names)
@click.option(
    "--reveal-secret",
    is_flag=True,
    help="Also print the secret, in the whsec_ form of Standard Webhooks libraries, and the "
    "values of extra headers.",
)
@json_option
@shared_options
def show_command(*, name: str, reveal_secret: bool, as_json: bool, data: Path | None) -> None:
    """Show one endpoint, the policy that holds, whether its secret rotates, and who changed it."""
    from signalpost.repository import endpoints
    from signalpost.repository.auditing import list_audit
    from signalpost.repository.hindrances import hindrances
    from signalpost.repository.reading import database_time
    from signalpost.secretbox import unseal

    settings = find_settings(data, quiet=as_json)
    with transaction(settings) as conn:
        view = endpoints.get_endpoint(conn, name)
        now = database_time(conn)
        trail = list_audit(conn, endpoint=name)[::-1]
        found = hindrances(conn, endpoint=name)
        secret, headers = "", dict[str, str]()
        if reveal_secret:
            secret = _whsec(endpoints.reveal_secret(conn, name, secret_box(settings)))
            headers = unseal(view.headers, secret_box(settings))
    if as_json:
        revealed = {"secret": secret, "header_values": headers} if reveal_secret else {}
        standing = {
            "state": state_of(name, found),
            "pauses": [asdict(one) for one in _pauses_of(name, found)],
            "breaker": next((asdict(one) for one in found.breakers if one.endpoint == name), None),
            "held": [asdict(one) for one in found.held],
        }
        told = {**public(view, now), "trail": [asdict(line) for line in trail]}
        print_json({**told, **standing, **revealed})
        return
    hint = "" if reveal_secret else " (--reveal-secret shows it)"
    facts(
        (
            ("name", view.name),
            ("url", view.url),
            ("secret", secret_line(view, now) + hint),
            *((("its text", secret),) if reveal_secret else ()),
            *policy_facts(view, settings),
            *((f"header {name}", value) for name, value in sorted(headers.items())),
            ("added", utc(view.created_at)),
            ("state", state_of(name, found)),
            *(("pause", pause_line(one, now)) for one in _pauses_of(name, found)),
            *(
                ("breaker", breaker_line(one, now))
                for one in found.breakers
                if one.endpoint == name
            ),
            *(("waiting", held_line(one, now)) for one in found.held),
        )
    )
    tell_trail(trail, now)


def _pauses_of(name: str, found: Hindrances) -> list[StandingPause]:
    """Those that may hold a delivery to it; a producer's or an instrument's are everybody's."""
    return [one for one in found.pauses if one.endpoint in (None, name)]


def _whsec(secret: str) -> str:
    from signalpost.core.signing import secret_bytes, standard_webhooks_secret

    return standard_webhooks_secret(secret_bytes(secret))
