"""Alerts about the system itself: what is wrong or well again, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from signalpost.alerts.wording import code, listing, moment, span, word
from signalpost.repository.told import Message, Notice

_SHORT = 24

_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "endpoint_trouble": (
            "Its attempts fail, and none succeeds. Its deliveries are retried, and then end.",
            "Look at the last failure, and ask the receiver's owner.",
        ),
        "endpoint_well": ("It accepts deliveries again.",),
        "endpoint_refuses": (
            "It answered 401, 403 or 404, for the first time since it last accepted one.",
            "Check its URL and secret with its owner, and the clocks on both sides.",
        ),
        "redis_gone": (
            "Deliveries and alerts go on from PostgreSQL, later by seconds.",
            "Bring Redis back, empty if need be, or correct REDIS_URL.",
        ),
        "redis_back": ("Redis answers again. Nothing needs to be done.",),
        "worker_gone": (
            "It fell silent without having been stopped. Others take its claims back.",
            "Look at its log and its machine; start it again: signalpost worker",
        ),
        "worker_back": ("Another worker has started on its machine since.",),
        "stalled": (
            "Deliveries are due, and nobody takes them. They wait, and expire.",
            "See which workers live, and start one: signalpost worker",
        ),
        "moving": ("Nothing is overdue any more.",),
        "secret_unreadable": (
            "An endpoint's secret cannot be decrypted. Its deliveries wait, and expire.",
            "Give the workers the SECRET_KEYS that it was stored with, and restart them.",
        ),
        "clock_off": (
            "A worker's clock is off the database's. That worker sends nothing.",
            "Set the clock of its machine right (NTP).",
        ),
        "heartbeat": ("Alerts arrive, and the ops worker watches.",),
    }
)


def about_system(notice: Notice) -> str:
    """Tell one notice: what it is about, what it means, what to do, with its labels."""
    labels = _labels(notice)
    return "\n".join(
        [
            f"<b>{_title(notice.kind)}</b>{_subject(notice)}",
            *_WORDS.get(notice.kind, ()),
            *([f"Details: {labels}"] if labels else []),
            f"More: {code('signalpost status')}",
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
    what = f"{message.count} times {_title(message.kind)}"
    return "\n".join(
        [
            f"<b>{what}</b> in {took}, since {moment(message.since)}",
            *_WORDS.get(message.kind, ()),
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
