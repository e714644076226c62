"""`signalpost status`: the whole system on one screen."""

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
    open_engine,
    shared_options,
)
from signalpost.cli.printing import age, facts, print_json, table

if TYPE_CHECKING:
    from signalpost.repository.overview import Overview
    from signalpost.settings import Settings

__all__ = ["status"]


@click.command(epilog=examples("signalpost status", "signalpost status --json | jq .overdue"))
@json_option
@shared_options
def status(*, as_json: bool, data: Path | None) -> None:
    """The whole system on one screen.

    Delivered, cancelled and superseded deliveries are counted over the last 24 hours, all others
    exactly. The exit code is 0 also where something is in trouble.
    """
    from signalpost.repository.overview import overview

    settings = find_settings(data, quiet=True)
    with open_engine(settings) as engine, engine.begin() as conn:
        seen = overview(conn)
    redis = _redis_state(settings.redis_url)
    servers = {
        "database": address(settings.database_url),
        "database_source": settings.database_source,
        "redis": address(settings.redis_url) if settings.redis_url else None,
        "redis_source": settings.redis_source,
        "redis_state": redis,
        "sending_enabled": settings.hmac_producer_enabled,
    }
    if as_json:
        print_json({**asdict(seen), **servers})
    else:
        _show(seen, servers, settings)


def _show(seen: Overview, servers: dict[str, Any], settings: Settings) -> None:
    facts(
        (
            ("database", f"up  {servers['database']} ({servers['database_source']})"),
            ("redis", _redis_line(servers)),
            ("sending", _sending(settings)),
            ("waiting", _waiting(seen)),
            ("dead letters", ", ".join(f"{n} {name}" for name, n in seen.dead_letters.items())),
            ("last 24 h", _finished(seen)),
            ("alerts", _alerts(seen)),
        )
    )
    click.echo("\nworkers")
    table(
        ("worker", "state", "renewed", "running for"),
        [
            (
                worker.name,
                "alive" if worker.alive else "silent",
                f"{age((seen.as_of - worker.renewed_at).total_seconds())} ago",
                age((seen.as_of - worker.started_at).total_seconds()),
            )
            for worker in seen.workers
        ],
        empty="  none; `signalpost up` starts the stack, `signalpost worker` a single one",
    )
    click.echo("\nendpoints with trouble")
    table(
        ("endpoint", "waiting for a retry", "dead letters in 24 h", "last failure"),
        [(t.endpoint, t.retrying, t.dead_letters, t.last_failure) for t in seen.trouble],
        empty="  none",
    )


def _redis_line(servers: dict[str, Any]) -> str:
    if servers["redis"] is None:
        return "not set; deliveries go on from PostgreSQL, a little later than usual"
    return f"{servers['redis_state']}  {servers['redis']} ({servers['redis_source']})"


def _sending(settings: Settings) -> str:
    if settings.hmac_producer_enabled:
        return "enabled"
    return "DISABLED by HMAC_PRODUCER_ENABLED=false: signals wait, and expire"


def _waiting(seen: Overview) -> str:
    counts = ", ".join(f"{number} {name}" for name, number in seen.unfinished.items())
    if seen.oldest_due_seconds is None:
        return f"{counts}; nothing is due"
    due = f"{seen.due} due, the oldest for {age(seen.oldest_due_seconds)}"
    return f"{counts}; {due}; {seen.overdue} overdue"


def _finished(seen: Overview) -> str:
    return ", ".join(f"{number} {name}" for name, number in seen.finished.items())


def _alerts(seen: Overview) -> str:
    if seen.oldest_alert_seconds is None:
        return "all sent"
    return f"{seen.alerts_unsent} unsent, the oldest for {age(seen.oldest_alert_seconds)}"


def _redis_state(url: str | None) -> str:
    """`up`, or `down` with the kind of trouble; never the URL, which may hold a password."""
    if url is None:
        return "not set"
    import redis

    client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        client.ping()
    except redis.exceptions.AuthenticationError:
        return "down (it refuses the password)"
    except (redis.exceptions.RedisError, OSError) as error:
        return f"down ({type(error).__name__})"
    finally:
        client.close()
    return "up"
