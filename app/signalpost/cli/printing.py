"""What the terminal shows: tables, facts, JSON, times and ages, and text that is safe to print.

Rich draws on a terminal (and honours NO_COLOR); what is piped is plain text in aligned columns.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import click

__all__ = [
    "age",
    "facts",
    "note",
    "print_json",
    "print_json_line",
    "printable",
    "table",
    "table_lines",
    "utc",
    "when",
    "worded",
]

_STYLES = {
    "delivered": "green",
    "pending": "yellow",
    "sending": "cyan",
    "dead": "bold red",
    "expired": "red",
    "rejected": "red",
    "gone": "red",
    "unknown": "magenta",
    "retry": "yellow",
    "up": "green",
    "alive": "green",
    "down": "bold red",
    "silent": "bold red",
}


# The same for what click draws.
_CLICK_STYLES: dict[str, dict[str, Any]] = {
    word: {"fg": style.split()[-1], "bold": style.startswith("bold") or None}
    for word, style in _STYLES.items()
}


def note(text: str) -> None:
    """A remark beside the answer, on standard error."""
    click.echo(text, err=True)


def age(seconds: float) -> str:
    """A span of time in the unit that says it shortest: `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for size, unit, limit in ((1, "s", 90), (60, "min", 5400), (3600, "h", 129_600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def utc(moment: datetime | None) -> str:
    """A moment in UTC to the second, such as `2026-01-31 09:30:00Z`; `-` where there is none."""
    if moment is None:
        return "-"
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def when(moment: datetime | None, now: datetime) -> str:
    """A moment with its distance: `2026-01-31 09:30:00Z (3 min ago)` or `(in 12 s)`."""
    if moment is None:
        return "-"
    distance = (now - moment).total_seconds()
    told = f"{age(distance)} ago" if distance >= 0 else f"in {age(-distance)}"
    return f"{utc(moment)} ({told})"


def printable(content: bytes | str) -> str:
    """Text that cannot move a terminal's cursor or forge a line; other bytes in hexadecimal."""
    text = content.decode("utf-8", "backslashreplace") if isinstance(content, bytes) else content
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def worded(word: str) -> str:
    """A status in its colour."""
    return click.style(word, **_CLICK_STYLES[word]) if word in _CLICK_STYLES else word


def print_json(content: object) -> None:
    """One JSON document on standard output; times as RFC 3339 in UTC."""
    click.echo(json.dumps(content, default=_json_value, indent=2, ensure_ascii=False))


def print_json_line(content: object) -> None:
    """One JSON document on one line, at once."""
    click.echo(json.dumps(content, default=_json_value, ensure_ascii=False))
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Rows under their columns, or the line `empty` where there are none."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        click.echo(empty)
    elif sys.stdout.isatty():
        _rich_table(columns, cells)
    else:
        _plain_table(columns, cells)


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str, more: int = 0
) -> list[str]:
    """A plain table as lines, its words in colour where they have one; `more` rows are left out."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        return [empty]
    lines = list(_aligned([[column.upper() for column in columns], *cells]))
    return [*lines, f"... and {more} more"] if more > 0 else lines


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and values, one a line, the values aligned."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {_cell(value)}")


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else printable(str(value))


def _plain_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    for line in _aligned([[column.upper() for column in columns], *cells]):
        click.echo(click.unstyle(line))


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        padded[-1] = line[-1]
        yield "  ".join(
            shown.replace(cell, click.style(cell, **_CLICK_STYLES[cell]), 1)
            if cell in _CLICK_STYLES
            else shown
            for cell, shown in zip(line, padded, strict=True)
        ).rstrip()


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        drawn.add_column(column, no_wrap=index == 0, overflow="fold")
    for line in cells:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in line))
    Console().print(drawn)


def _json_value(value: object) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, UUID | Path | Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
