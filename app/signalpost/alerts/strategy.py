"""Alerts that a strategy raised itself: its own words, shown and never obeyed."""

from __future__ import annotations

from signalpost.alerts.wording import code, listing, moment, span, word
from signalpost.repository.told import Message, Notice

__all__ = ["about_strategies", "about_strategy"]

_ALONE, _AMONG_MANY = 3000, 500
"""Characters that a strategy's words may take, their escapes counted."""


def about_strategy(notice: Notice) -> str:
    """Tell one: a text as it was given, or a signal that was not delivered directly."""
    return "\n".join([*_told(notice, _ALONE), f"More: {code('signalpost status')}"])


def about_strategies(message: Message) -> str:
    """Tell several of one kind: the first ones, shortened, and the command that lists all."""
    took = span((message.until - message.since).total_seconds())
    lines = [f"<b>{message.count} alerts</b> in {took}, the first {len(message.first)}:"]
    for notice in message.first:
        lines += _told(notice, _AMONG_MANY)
    command = listing(message.kind, message.since, message.count)
    return "\n".join([*lines, f"Since {moment(message.since)}; all: {code(command)}"])


def _told(notice: Notice, most: int) -> list[str]:
    details = notice.details
    if notice.kind != "delivery_error":
        return ["<b>From a strategy</b>:", *_lines(details.get("text", ""), most)]
    return [
        f"<b>Not delivered directly</b>: signal {code(details.get('signal', '?')[:80])}",
        f"Attempts: {word(details.get('attempts', '?'))}; nothing tries it again.",
        *_lines(details.get("error", ""), most),
    ]


def _lines(text: str, most: int) -> list[str]:
    shown: list[str] = []
    for line in text.split("\n"):
        room = most - sum(len(each) + 1 for each in shown)
        limit = room
        safe = word(line, limit)
        while len(safe) > room:  # an escape is longer than what it stands for
            limit = limit * 9 // 10
            safe = word(line, limit)
        shown.append(safe)
        if room - len(safe) < 2:
            break
    return shown
