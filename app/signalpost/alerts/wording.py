"""Words of an alert made safe for Telegram's HTML: labels, commands, moments and spans of time."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

__all__ = ["code", "listing", "moment", "span", "word"]

LISTED = 200
"""What `signalpost alerts list` shows without being asked for more."""


def word(value: str, limit: int = 80) -> str:
    """One label made safe: no markup, no line breaks or invisible characters, not too long."""
    shown = "".join(char if char.isprintable() else "?" for char in value)
    return escape(shown if len(shown) <= limit else shown[: limit - 1] + "…", quote=False)


def code(value: str) -> str:
    """A text to be copied, such as a command."""
    return f"<code>{escape(value, quote=False)}</code>"


def moment(when: datetime) -> str:
    """A moment in UTC to the second."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def span(seconds: float) -> str:
    """A span of time in its two largest units; nothing is negative."""
    whole = max(0, int(seconds))
    for size, unit, smaller, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {part}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def listing(kind: str, since: datetime, count: int) -> str:
    """The command that lists all alerts of a kind since a moment, ``count`` at least."""
    start = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    command = f"signalpost alerts list --kind {kind} --since {start}"
    return command if count <= LISTED else f"{command} --limit {count}"
