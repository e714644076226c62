"""Alerts about deliveries: one told in full, many told by their counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from signalpost.alerts.wording import code, listing, moment, span, word
from signalpost.repository.told import LastAttempt, Letter, Message, Notice, Tally

REPLAY_TTL_SECONDS = 600
"""The new life that the command for an expired delivery proposes."""

_SHORT = 24
"""Characters of a label where many are told."""
_MOST_NAMES = 5

_TITLES = {"dead": "Dead letter", "expired": "Expired", "corrected": "Corrected"}
_MANY = {"dead": "dead letters", "expired": "expired deliveries", "corrected": "corrections"}

_REASONS = {
    "exhausted": "all retries are used up",
    "rejected": "the receiver rejected it",
    "gone": "the receiver says that the endpoint is gone (410)",
    "unknown": "its outcome is unknown, and the endpoint stops on that",
    "expired": "its life ended before it was delivered",
}

_PHASES = {
    "none": "not begun",
    "dns": "resolving the name",
    "connect": "connecting",
    "tls": "the TLS handshake",
    "sent": "sending the request",
    "headers": "the answer's headers",
    "body": "the answer's body",
}


def about_letter(notice: Notice) -> str:
    """Tell of one delivery all that the operator needs, and the command that replays it."""
    letter = _letter(notice)
    delivery_id = str(letter.delivery_id)
    age = span((notice.now - letter.enqueued_at).total_seconds())
    where = word(notice.endpoint or "?")
    return "\n".join(
        [
            f"<b>{_title(notice.kind)}</b>: {_what(letter)} to <b>{where}</b>",
            *_verdict(notice, letter),
            f"Attempts: {letter.attempts}{_last(letter.last)}",
            f"Signal: {code(str(letter.signal_id))}",
            f"Delivery: {code(delivery_id)}",
            f"Age: {age} (enqueued {moment(letter.enqueued_at)})",
            f"Story: {code(f'signalpost deliveries show {delivery_id}')}",
            *_remedy(notice, letter),
        ]
    )


def about_letters(message: Message) -> str:
    """Tell of many deliveries: how many, where, why, the first, and the command that lists all."""
    many = _MANY.get(message.kind) or f"alerts: {word(message.kind.replace('_', ' '))}"
    took = span((message.until - message.since).total_seconds())
    first = _letter(message.first[0])
    return "\n".join(
        [
            f"<b>{message.count} {many}</b> in {took}, since {moment(message.since)}",
            f"To: {_counts((tally.endpoint or '?', tally.count) for tally in message.tallies)}",
            *_standings(message.tallies),
            f"The first {len(message.first)}:",
            *(_line(notice) for notice in message.first),
            f"All: {code(listing(message.kind, message.since, message.count))}",
            f"Each story has its remedy: {code(f'signalpost deliveries show {first.delivery_id}')}",
        ]
    )


def _letter(notice: Notice) -> Letter:
    assert notice.letter is not None  # noqa: S101 - whoever calls has looked
    return notice.letter


def _title(kind: str) -> str:
    return _TITLES.get(kind) or word(kind.replace("_", " ").capitalize())


def _what(letter: Letter, limit: int = 80) -> str:
    side, action = word(letter.side, limit), word(letter.action, limit)
    return f"{word(letter.instrument, limit)} {side} ({action})"


def _line(notice: Notice) -> str:
    letter = _letter(notice)
    where = word(notice.endpoint or "?", _SHORT)
    return f"{code(str(letter.delivery_id))} {_what(letter, _SHORT)} to {where}"


def _standings(tallies: Iterable[Tally]) -> Iterator[str]:
    """How they stand now: why, whether they may have been executed, what has moved on since."""
    ended = [tally for tally in tallies if tally.status in ("dead", "expired")]
    if ended:
        reasons = (
            (_REASONS.get(t.reason or "", t.reason or str(t.status)), t.count) for t in ended
        )
        yield f"Not delivered: {_counts(reasons, limit=60)}"
        executed = sum(tally.count for tally in ended if tally.maybe_received)
        if executed:
            yield f"<b>May have executed</b>: {executed}; check the receivers first."
        else:
            yield "Surely not executed."
    moved = Counter[str]()
    for tally in tallies:
        if tally.status not in ("dead", "expired"):
            moved[tally.status or "?"] += tally.count
    if delivered := moved.pop("delivered", 0):
        yield f"Delivered since: {delivered}; do not replay those."
    if moved:
        yield f"Put back since: {_counts(moved.items())}"


def _counts(pairs: Iterable[tuple[str, int]], *, limit: int = _SHORT) -> str:
    counter = Counter[str]()
    for name, number in pairs:
        counter[name] += number
    shown = [f"{word(name, limit)} {number}" for name, number in counter.most_common(_MOST_NAMES)]
    left = len(counter) - len(shown)
    return ", ".join([*shown, *([f"{left} more"] if left else [])])


def _verdict(notice: Notice, letter: Letter) -> list[str]:
    if letter.status == "delivered":
        if notice.kind == "corrected":
            return ["It was delivered after all (late answer); do not replay it."]
        return [f"It was {word(notice.kind)}, but has been delivered since; do not replay it."]
    executed = (
        "<b>May have executed</b>: check the receiver first."
        if letter.maybe_received
        else "Surely not executed."
    )
    if letter.status not in ("dead", "expired"):
        return [f"It was put back since and is {word(letter.status)} now.", executed]
    why = _REASONS.get(letter.reason or "", letter.reason or letter.status)
    status = "" if letter.status == notice.kind else f" It is {letter.status} now."
    return [f"Not delivered: {word(why)}.{status}", executed]


def _last(last: LastAttempt | None) -> str:
    if last is None:
        return ""
    if last.status_code is not None:
        return f"; last: HTTP {last.status_code}"
    failure = (last.failure or last.outcome).replace("_", " ")
    return f"; last: {word(failure)}, at {word(_PHASES.get(last.phase, last.phase))}"


def _remedy(notice: Notice, letter: Letter) -> list[str]:
    if letter.status not in ("dead", "expired"):
        return []
    ends = letter.expires_at
    over = letter.status == "expired" or (ends is not None and ends <= notice.now)
    command = f"signalpost replay {letter.delivery_id}"
    conditions = []
    if letter.maybe_received:
        conditions.append("only if it was not executed")
        command += " --even-unknown"
    if over:
        conditions.append("only if the trade still makes sense, for it is expired")
        command += f" --even-expired --ttl {REPLAY_TTL_SECONDS}"
    elif ends is not None:
        conditions.append(f"before it expires at {moment(ends)}")
    return [f"Replay{''.join(f', {each}' for each in conditions)}: {code(command)}"]
