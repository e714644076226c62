"""What a message says: a pure function from what it covers to Telegram's HTML."""

from __future__ import annotations

from signalpost.alerts.letters import about_letter, about_letters
from signalpost.alerts.strategy import about_strategies, about_strategy
from signalpost.alerts.system import about_system, about_systems
from signalpost.alerts.wording import code, listing, moment, word
from signalpost.core.alerting import STRATEGY_KINDS
from signalpost.repository.told import Message

__all__ = ["brief", "render"]


def render(message: Message) -> str:
    """Write a message: HTML as the Bot API takes it, under its 4096 characters.

    One alert is told in full. Of several it gives counts, the first of them, and the command that
    lists all. Deliveries are told as they stand at the claim: an alert may be sent long after its
    cause.
    """
    first = message.first[0]
    if message.kind in STRATEGY_KINDS:
        return about_strategy(first) if message.count == 1 else about_strategies(message)
    if message.count == 1:
        return about_system(first, message.since) if first.letter is None else about_letter(first)
    return about_systems(message) if first.letter is None else about_letters(message)


def brief(message: Message) -> str:
    """The least that must be told, where the message itself cannot be made or is not taken."""
    what = f"{message.count} alert{'s' if message.count > 1 else ''} of kind {word(message.kind)}"
    command = listing(message.kind, message.since, message.count)
    return f"<b>{what}</b>, since {moment(message.since)}\nAll: {code(command)}"
