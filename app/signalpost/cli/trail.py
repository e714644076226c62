"""The audit trail as a person reads it, under the story of a delivery or an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from signalpost.cli.printing import age, table, utc

if TYPE_CHECKING:
    from signalpost.repository.trail import TrailLine

__all__ = ["difference", "tell_trail"]


def tell_trail(lines: Sequence[TrailLine], now: datetime) -> None:
    """Print who did what, when and why; `now` is database time."""
    click.echo("\nacts")
    table(
        ("when", "age", "who", "act", "change", "why"),
        [
            (
                utc(line.at),
                age((now - line.at).total_seconds()),
                line.actor,
                line.action,
                difference(line.before, line.after),
                line.why,
            )
            for line in lines
        ],
        empty="  nobody has done anything to it",
    )


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """What an act changed: `status dead -> pending, replays 1`; what stayed is left out."""
    old, new = before or {}, after or {}
    told = []
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            continue
        if name not in old:
            told.append(f"{name} {_shown(new[name])}")
        elif old[name] != new[name]:
            told.append(f"{name} {_shown(old[name])} -> {_shown(new[name])}")
    return ", ".join(told)


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
