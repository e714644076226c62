"""What `signalpost status` shows: all of a system on one screen, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from signalpost.cli.hindering import breaker_line, held_line, pause_line
from signalpost.cli.joining import address
from signalpost.cli.printing import age, table_lines, utc
from signalpost.core.lifecycle import Status

if TYPE_CHECKING:
    from signalpost.cli.redis_state import RedisState
    from signalpost.repository.hindrances import Hindrances
    from signalpost.repository.overview import Overview
    from signalpost.repository.recent import Recently
    from signalpost.settings import Settings

__all__ = ["screen"]

_MOST_LINES = 5
"""Of workers, and of endpoints in trouble; --json has all."""


def screen(seen: Overview, found: Hindrances, redis: RedisState, settings: Settings) -> list[str]:
    """The lines of one look."""
    database = f"{_place(settings.database_url)} ({settings.database_source})"
    facts = (
        ("now", utc(seen.as_of)),
        ("database", f"{_state('up')}  {database}"),
        ("redis", _redis(redis, settings)),
        ("queues", ", ".join(f"{n} {name}" for name, n in redis.queues.items()) or "-"),
        ("sending", _sending(settings)),
        ("waiting", _waiting(seen)),
        ("last 5 min", _recently(seen.recently)),
        ("last 24 h", _counts(seen.finished, more=seen.finished_at_least)),
        ("dead letters", _counts(seen.dead_letters, more=seen.dead_letters_at_least)),
        ("alerts", _alerts(seen)),
    )
    return [
        *(f"{click.style(name.ljust(12), dim=True)}  {value}" for name, value in facts),
        "",
        *_workers(seen),
        "",
        *_trouble(seen),
        *_hindering(seen, found),
    ]


def _state(state: str) -> str:
    word, _, rest = state.partition(" ")
    colours = {"up": "green", "down": "red"}
    return click.style(word, fg=colours.get(word)) + (f" {rest}" if rest else "")


def _redis(redis: RedisState, settings: Settings) -> str:
    if settings.redis_url is None:
        return "not set; deliveries go on from PostgreSQL, a little later than usual"
    return f"{_state(redis.state)}  {_place(settings.redis_url)} ({settings.redis_source})"


def _place(url: str) -> str:
    """Server and database: all that a line of the screen has room for."""
    return address(url).partition("://")[2].rpartition("@")[2]


def _sending(settings: Settings) -> str:
    if settings.hmac_producer_enabled:
        return "enabled"
    return click.style("DISABLED", fg="red", bold=True) + (
        " by HMAC_PRODUCER_ENABLED=false: signals wait, and expire"
    )


def _counts(counts: Any, *, more: bool = False) -> str:
    plus = "+" if more else ""
    return ", ".join(f"{number:,}{plus} {name}" for name, number in counts.items())


def _waiting(seen: Overview) -> str:
    counts = _counts(seen.unfinished)
    if seen.oldest_due_seconds is None:
        return f"{counts}; nothing is due"
    due = f"{seen.due:,} due, the oldest for {age(seen.oldest_due_seconds)}"
    overdue = f"{seen.overdue:,} overdue"
    return f"{counts}; {due}; {click.style(overdue, fg='red') if seen.overdue else overdue}"


def _recently(recently: Recently) -> str:
    delivered = recently.finished.get(Status.DELIVERED, 0)
    dead = sum(recently.finished.values()) - delivered
    return (
        f"enqueued {_rate(recently.enqueued, recently.enqueued_seconds)}, "
        f"delivered {_rate(delivered, recently.finished_seconds)}, "
        f"ended otherwise {_rate(dead, recently.finished_seconds)}"
    )


def _rate(number: int, seconds: float) -> str:
    """How often something happened, in the unit that says it best."""
    a_second = number / max(seconds, 0.001)
    if a_second >= 1:
        return f"{a_second:,.1f}/s"
    return f"{a_second * 60:,.1f}/min" if number else "0/min"


def _alerts(seen: Overview) -> str:
    if seen.oldest_alert_seconds is None:
        return "all sent"
    unsent = click.style(f"{seen.alerts_unsent:,} unsent", fg="yellow")
    return f"{unsent}, the oldest for {age(seen.oldest_alert_seconds)}"


def _workers(seen: Overview) -> list[str]:
    # The silent ones first: those are to be looked at.
    workers = sorted(seen.workers, key=lambda worker: worker.alive)
    return table_lines(
        ("worker", "state", "renewed", "running for"),
        [
            (
                worker.name,
                "alive" if worker.alive else "silent",
                f"{age((seen.as_of - worker.renewed_at).total_seconds())} ago",
                age((seen.as_of - worker.started_at).total_seconds()),
            )
            for worker in workers[:_MOST_LINES]
        ],
        empty="no worker; `signalpost up` starts the stack, `signalpost worker` a single one",
        more=len(workers) - _MOST_LINES,
    )


def _trouble(seen: Overview) -> list[str]:
    lasting = [
        f"{one.kind.replace('_', ' ')} {one.subject} for "
        f"{age((seen.as_of - one.began_at).total_seconds())}"
        for one in seen.lasting[:_MOST_LINES]
    ]
    return [
        *table_lines(
            ("endpoint in trouble", "waiting for a retry", "dead letters in 24 h", "last failure"),
            [
                (one.endpoint, one.retrying, one.dead_letters, one.last_failure)
                for one in seen.trouble[:_MOST_LINES]
            ],
            empty="no endpoint in trouble",
            more=len(seen.trouble) - _MOST_LINES,
        ),
        *lasting,
    ]


_NO_HINDRANCE = frozenset({"due", "retry"})
"""Told above already."""


def _hindering(seen: Overview, found: Hindrances) -> list[str]:
    held = [one for one in found.held if one.cause not in _NO_HINDRANCE]
    lines = [
        *(pause_line(one, seen.as_of) for one in found.pauses),
        *(breaker_line(one, seen.as_of) for one in found.breakers[:_MOST_LINES]),
        *(f"held for {one.endpoint}: {held_line(one, seen.as_of)}" for one in held[:_MOST_LINES]),
    ]
    left = max(len(held) - _MOST_LINES, 0) + max(len(found.breakers) - _MOST_LINES, 0)
    return [*lines, *([f"... and {left} more (--json has all)"] if left else [])]
