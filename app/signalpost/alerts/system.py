"""Alerts about the system itself: what is wrong or well again, and what to do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from signalpost.alerts.wording import code, listing, moment, span, word
from signalpost.repository.told import Message, Notice

_SHORT = 24


@dataclass(frozen=True, slots=True)
class _Words:
    """What a kind means, what to do, and the command that helps; ``NAME`` is the endpoint's."""

    means: str
    remedy: str = ""
    command: str = "signalpost status"


_WORDS: Mapping[str, _Words] = MappingProxyType(
    {
        "endpoint_trouble": _Words(
            "Its attempts fail, and none succeeds. Its deliveries are retried, and then end.",
            "Look at the last failure, and ask the receiver's owner.",
            "signalpost endpoint test NAME",
        ),
        "endpoint_well": _Words(
            "It accepts deliveries again.",
            "What died meanwhile can be replayed, where the trade still makes sense.",
            "signalpost replay --endpoint NAME --since 1h --dry-run",
        ),
        "endpoint_refuses": _Words(
            "It answered so for the first time since it last accepted a delivery.",
            "Check its URL and secret with its owner, and the clocks on both sides.",
            "signalpost endpoint test NAME",
        ),
        "redis_gone": _Words(
            "Deliveries and alerts go on from PostgreSQL, later by seconds.",
            "Bring Redis back, empty if need be, or correct REDIS_URL.",
            "signalpost doctor",
        ),
        "redis_back": _Words("It can be used again; nothing needs to be done."),
        "worker_gone": _Words(
            "It fell silent without having been stopped. Others take its claims back.",
            "Look at its log and its machine, and start it again: signalpost worker",
        ),
        "worker_back": _Words("It, or another worker in its place, is at work."),
        "stalled": _Words(
            "Deliveries have been due for more than a minute, and nobody takes them.",
            "See whether a worker is alive and sending is enabled there; start one.",
            "signalpost doctor",
        ),
        "moving": _Words("Nothing is overdue any more."),
        "secret_unreadable": _Words(
            "An endpoint's secret cannot be decrypted. Its deliveries wait, and expire.",
            "Give the workers the SECRET_KEYS that it was stored with, and restart them.",
            "signalpost doctor",
        ),
        "clock_off": _Words(
            "A worker's clock is off the database's. That worker sends nothing.",
            "Set the clock of its machine right (NTP).",
        ),
        "breaker_opened": _Words(
            "It kept failing. Its deliveries wait without attempts, and one at a time is tried.",
            "Look at the last failure, and ask the receiver's owner.",
            "signalpost endpoint test NAME",
        ),
        "breaker_long_open": _Words(
            "It has been failing for minutes. Its deliveries wait, and expire in the end.",
            "Ask the receiver's owner; pause or cancel what shall not go out late.",
            "signalpost endpoint test NAME",
        ),
        "breaker_closed": _Words(
            "It accepts deliveries again. What waited goes out, slowly at first.",
        ),
        "paused": _Words(
            "A person stopped it. What waits keeps its place, and expires when its life ends.",
            "To let it go again, see first how much that is.",
            "signalpost resume",
        ),
        "resumed": _Words("A person let it go again; it goes out in order, slowly at first."),
        "heartbeat": _Words("All is well: alerts arrive, and the ops worker watches."),
    }
)
_UNKNOWN = _Words("")


def about_system(notice: Notice, raised_at: datetime) -> str:
    """Tell one notice: what it is about, what it means, what to do, with its labels and its time.

    Kinds have windows of their own, and an outage holds all back: one that comes late must not be
    taken for the last word.
    """
    words, labels = _WORDS.get(notice.kind, _UNKNOWN), _labels(notice)
    command = words.command.replace("NAME", shlex.quote(notice.endpoint or ""))
    return "\n".join(
        [
            f"<b>{_title(notice.kind)}</b>{_subject(notice)}",
            *filter(None, (words.means, words.remedy)),
            *([f"Details: {labels}"] if labels else []),
            f"Raised: {moment(raised_at)}",
            f"More: {code(command)}",
        ]
    )


def trial_text(asker: str) -> str:
    """What `signalpost alerts test` sends."""
    return "\n".join(
        [
            "<b>Test</b>: alerts of signalpost reach this chat.",
            f"Sent by hand ({word(asker)}); nothing is wrong, and nothing is to be done.",
            f"More: {code('signalpost alerts list')}",
        ]
    )


def about_systems(message: Message) -> str:
    """Tell several notices of one kind: whom each is about, and what to do."""
    took = span((message.until - message.since).total_seconds())
    words = _WORDS.get(message.kind, _UNKNOWN)
    what = f"{message.count} times {_title(message.kind)}"
    return "\n".join(
        [
            f"<b>{what}</b> in {took}, since {moment(message.since)}",
            *filter(None, (words.means, words.remedy)),
            f"The first {len(message.first)}:",
            *(f"{_subject(notice, _SHORT)[2:]}: {_labels(notice, 4)}" for notice in message.first),
            f"All: {code(listing(message.kind, message.since, message.count))}",
        ]
    )


def _title(kind: str) -> str:
    return word(kind.replace("_", " ").capitalize())


def _subject(notice: Notice, limit: int = 80) -> str:
    if notice.endpoint:
        return f": endpoint <b>{word(notice.endpoint, limit)}</b>"
    return f": <b>{word(notice.subject, limit)}</b>" if notice.subject else ""


def _labels(notice: Notice, most: int = 10) -> str:
    limit = 80 if most == 10 else _SHORT
    told = (notice.endpoint, notice.subject)
    shown = [(name, value) for name, value in notice.details.items() if value not in told]
    return ", ".join(f"{word(name, limit)} {word(value, limit)}" for name, value in shown[:most])
