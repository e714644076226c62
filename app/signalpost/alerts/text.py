"""What an alert says: a pure function from a notice to Telegram's HTML."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from signalpost.repository.alerts import LastAttempt, Letter, Notice

REPLAY_TTL_SECONDS = 600
"""The new life that the command for an expired delivery proposes."""

_TITLES = {"dead": "Dead letter", "expired": "Expired", "corrected": "Corrected"}

_REASONS = {
    "exhausted": "all retries are used up",
    "rejected": "the receiver rejected it",
    "gone": "the receiver says that the endpoint is gone (410)",
    "unknown": "its outcome is unknown, and the endpoint stops on that",
    "expired": "its life ended before it was delivered",
}

_NOTICES = {
    "secret_unreadable": (
        "An endpoint's secret cannot be decrypted. Its deliveries wait, and expire.",
        "Give the workers the SECRET_KEYS that it was stored with, and restart them.",
    ),
    "clock_off": (
        "A worker's clock is off the database's. That worker sends nothing.",
        "Set the clock of its machine right (NTP).",
    ),
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


def render(notice: Notice) -> str:
    """Write the message for a notice: HTML as the Bot API takes it, under 4096 characters.

    Says the delivery's status as it stands at the claim: an alert may be sent long after its cause.
    """
    if notice.letter is None:
        return _about_system(notice)
    letter = notice.letter
    delivery_id = str(letter.delivery_id)
    age = _span((notice.now - letter.enqueued_at).total_seconds())
    return "\n".join(
        [
            _headline(notice, letter),
            *_verdict(notice, letter),
            f"Attempts: {letter.attempts}{_last(letter.last)}",
            f"Signal: {_code(str(letter.signal_id))}",
            f"Delivery: {_code(delivery_id)}",
            f"Age: {age} (enqueued {_moment(letter.enqueued_at)})",
            f"Story: {_code(f'signalpost deliveries show {delivery_id}')}",
            *_remedy(notice, letter),
        ]
    )


def _headline(notice: Notice, letter: Letter) -> str:
    what = f"{_word(letter.instrument)} {_word(letter.side)} ({_word(letter.action)})"
    return f"<b>{_title(notice)}</b>: {what} to <b>{_word(notice.endpoint or '?')}</b>"


def _title(notice: Notice) -> str:
    return _TITLES.get(notice.kind) or _word(notice.kind.replace("_", " ").capitalize())


def _verdict(notice: Notice, letter: Letter) -> list[str]:
    if letter.status == "delivered":
        if notice.kind == "corrected":
            return ["It was delivered after all (late answer); do not replay it."]
        return [f"It was {_word(notice.kind)}, but has been delivered since; do not replay it."]
    executed = (
        "<b>May have executed</b>: check the receiver first."
        if letter.maybe_received
        else "Surely not executed."
    )
    if letter.status not in ("dead", "expired"):
        return [f"It was put back since and is {_word(letter.status)} now.", executed]
    why = _REASONS.get(letter.reason or "", letter.reason or letter.status)
    status = "" if letter.status == notice.kind else f" It is {letter.status} now."
    return [f"Not delivered: {_word(why)}.{status}", executed]


def _last(last: LastAttempt | None) -> str:
    if last is None:
        return ""
    if last.status_code is not None:
        return f"; last: HTTP {last.status_code}"
    failure = (last.failure or last.outcome).replace("_", " ")
    return f"; last: {_word(failure)}, at {_word(_PHASES.get(last.phase, last.phase))}"


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
        conditions.append(f"before it expires at {_moment(ends)}")
    return [f"Replay{''.join(f', {each}' for each in conditions)}: {_code(command)}"]


def _about_system(notice: Notice) -> str:
    subject = f": endpoint <b>{_word(notice.endpoint)}</b>" if notice.endpoint else ""
    labels = ", ".join(
        f"{_word(name)} {_word(value)}"
        for name, value in list(notice.details.items())[:10]
        if value != notice.endpoint
    )
    return "\n".join(
        [
            f"<b>{_title(notice)}</b>{subject}",
            *_NOTICES.get(notice.kind, ()),
            *([f"Details: {labels}"] if labels else []),
            f"More: {_code('signalpost status')}",
        ]
    )


def _word(value: str, limit: int = 80) -> str:
    """One label made safe: no markup, no line breaks or invisible characters, not too long."""
    shown = "".join(char if char.isprintable() else "?" for char in value)
    return escape(shown if len(shown) <= limit else shown[: limit - 1] + "…", quote=False)


def _code(value: str) -> str:
    return f"<code>{escape(value, quote=False)}</code>"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(seconds: float) -> str:
    whole = max(0, int(seconds))
    for size, unit, smaller, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {part}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
