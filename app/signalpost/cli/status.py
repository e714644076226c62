"""`signalpost status`: the whole system on one screen, once or again and again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from signalpost.cli.joining import (
    address,
    examples,
    find_settings,
    json_option,
    shared_options,
    transaction,
)
from signalpost.cli.printing import print_json, print_json_line
from signalpost.cli.redis_state import RedisState, redis_state
from signalpost.cli.screen import screen
from signalpost.cli.watching import draw, watch, watch_option

if TYPE_CHECKING:
    from signalpost.repository.hindrances import Hindrances
    from signalpost.repository.overview import Overview
    from signalpost.settings import Settings

    _Look = tuple[Overview, Hindrances, RedisState, Settings]

__all__ = ["status"]


@click.command(
    epilog=examples(
        "signalpost status",
        "signalpost status --watch",
        "signalpost status --watch 10s --json >> status.jsonl",
        "signalpost status --json | jq .overdue",
    )
)
@watch_option
@json_option
@shared_options
def status(*, every: float | None, as_json: bool, data: Path | None) -> None:
    """The whole system on one screen.

    Of finished deliveries only the newest 20,000 are counted; where there are more, a + stands
    behind the number. With --watch and --json each look is one line. The exit code is 0 also where
    something is in trouble.
    """
    if every is None:
        looked = _look(data)
        if as_json:
            print_json(_facts(*looked))
        else:
            click.echo("\n".join(screen(*looked)))
        return
    _watch(data, seconds=every, as_json=as_json)


def _watch(data: Path | None, *, seconds: float, as_json: bool) -> None:
    def look() -> None:
        looked = _look(data)
        if as_json:
            print_json_line(_facts(*looked))
        else:
            draw(screen(*looked))

    def away(trouble: str) -> None:
        if as_json:
            print_json_line({"database_state": "down", "trouble": trouble})
        else:
            draw([f"database      {click.style('down', fg='red', bold=True)}  {trouble}", ""])

    watch(look, away, seconds=seconds)


def _look(data: Path | None) -> _Look:
    from signalpost.repository.hindrances import hindrances
    from signalpost.repository.overview import overview

    # Anew each time: an embedded stack that was started again has other ports.
    settings = find_settings(data, quiet=True)
    with transaction(settings) as conn:
        seen, found = overview(conn), hindrances(conn)
    return seen, found, redis_state(settings.redis_url), settings


def _facts(
    seen: Overview, found: Hindrances, redis: RedisState, settings: Settings
) -> dict[str, Any]:
    return {
        **asdict(seen),
        **asdict(found),
        "database": address(settings.database_url),
        "database_source": settings.database_source,
        "database_state": "up",
        "redis": address(settings.redis_url) if settings.redis_url else None,
        "redis_source": settings.redis_source,
        "redis_state": redis.state,
        "queues": redis.queues,
        "sending_enabled": settings.hmac_producer_enabled,
    }
