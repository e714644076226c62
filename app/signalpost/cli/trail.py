"""The audit trail as a person reads it, also under the story of a delivery or an endpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from signalpost.cli.printing import age, table, utc

if TYPE_CHECKING:
    from signalpost.repository.auditing import AuditLine

__all__ = ["changed", "tell_trail"]

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d")


def tell_trail(lines: Sequence[AuditLine], now: datetime) -> None:
    """Print who did what, when and why; `now` is database time."""
    click.echo("\nacts")
    table(
        ("when", "age", "who", "what", "why", "change"),
        [
            (
                utc(line.at),
                age((now - line.at).total_seconds()),
                line.actor,
                line.action,
                line.why,
                changed(line),
            )
            for line in lines
        ],
        empty="  nobody has done anything to it",
    )


def changed(line: AuditLine) -> str:
    """What differs between before and after; all of it where there is only one of them."""
    before, after = line.before or {}, line.after or {}
    if not before:
        return ", ".join(f"{name} {_shown(value)}" for name, value in after.items() if value)
    if not after:
        return ", ".join(f"{name} {_shown(value)}" for name, value in before.items() if value)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return ", ".join(
        f"{name} {_shown(before.get(name))} -> {_shown(after.get(name))}" for name in names
    )


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if _MOMENT.fullmatch(value):
        return utc(datetime.fromisoformat(value))
    return value
