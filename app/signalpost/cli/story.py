"""The story of one delivery, told for a person at a terminal or as JSON."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from signalpost.cli.hindering import because
from signalpost.cli.printing import age, facts, printable, table, utc, when
from signalpost.cli.trail import tell_trail

if TYPE_CHECKING:
    from signalpost.repository.stories import AlertLine, AttemptLine, Story
    from signalpost.settings import Settings

__all__ = ["next_step", "story_json", "tell"]

_EXCERPT_SHOWN = 600


def story_json(story: Story, body: bytes | None) -> dict[str, Any]:
    """The same story for a program; the body only where it was asked for."""
    content = asdict(story)
    return content if body is None else {**content, "body": body}


def tell(story: Story, settings: Settings, body: bytes | None) -> None:
    """Print the story."""
    line = story.delivery
    reason = f" ({line.reason})" if line.reason else ""
    allowed = settings.max_retries if story.max_retries is None else story.max_retries
    facts(
        (
            ("delivery", line.delivery_id),
            ("signal", f"{line.signal_id}  {line.instrument} {line.side} {line.action}"),
            ("producer", story.producer_id),
            ("endpoint", f"{line.endpoint}  {story.url}"),
            ("status", f"{line.status}{reason}"),
            ("enqueued", when(line.created_at, story.as_of)),
            ("expires", when(line.expires_at, story.as_of) if line.expires_at else "never"),
            ("attempts", f"{line.attempts}; {story.spent} counted, {allowed} retries allowed"),
            ("replays", story.replays),
            ("received", _received(story)),
            ("next", next_step(story)),
        )
    )
    if body is not None:
        click.echo(f"\nbody\n  {printable(body)}")
    click.echo("\nattempts")
    table(
        ("number", "started", "age", "took", "phase", "outcome", "answer", "detail", "remarks"),
        [_attempt(attempt, story.as_of) for attempt in story.attempts],
        empty="  none yet",
    )
    for attempt in story.attempts:
        if attempt.excerpt:
            click.echo(f"\nanswer to attempt {attempt.number}\n  {_excerpt(attempt.excerpt)}")
    click.echo("\nalerts")
    table(
        ("alert", "kind", "written", "age", "tries", "sent", "receipt", "error"),
        [_alert(alert, story.as_of) for alert in story.alerts],
        empty="  none",
    )
    tell_trail(story.trail, story.as_of)


def next_step(story: Story) -> str:
    """What happens next without anybody's doing, or what a person can do."""
    line = story.delivery
    if line.status == "pending":
        return _next_of_pending(story)
    if line.status == "sending":
        since = age((story.as_of - story.claimed_at).total_seconds()) if story.claimed_at else "?"
        told = f"attempt {line.attempts} is under way for {since}"
        if story.wanted_end is None:
            return told
        return f"{told}; then it ends {story.wanted_end}, unless that one is accepted"
    if line.status not in ("dead", "expired"):
        return "nothing: it is finished"
    options = ""
    if story.maybe_received:
        options += " --even-unknown (ask the receiver first: it may have executed it)"
    over = line.expires_at is not None and line.expires_at <= story.as_of
    if over or line.status == "expired":
        options += " --even-expired --ttl SPAN"
    return f"nothing, unless somebody runs: signalpost replay {line.delivery_id}{options}"


def _next_of_pending(story: Story) -> str:
    line = story.delivery
    if story.cause is not None and (held := because((story.cause, story.blocked_by))):
        return held
    if line.next_attempt_at is None or line.next_attempt_at <= story.as_of:
        return "an attempt as soon as a worker takes it"
    return f"attempt {line.attempts + 1} at {when(line.next_attempt_at, story.as_of)}"


def _received(story: Story) -> str:
    if story.delivery.status == "delivered":
        return "yes"
    return "perhaps: bytes went out, and no proof came back" if story.maybe_received else "no"


def _attempt(attempt: AttemptLine, now: datetime) -> tuple[object, ...]:
    answer = attempt.failure if attempt.status_code is None else attempt.status_code
    if attempt.status_code is not None and attempt.failure:
        answer = f"{attempt.status_code}, then {attempt.failure}"
    remarks = [
        *([] if attempt.counted else ["not counted"]),
        *(["late news"] if attempt.late else []),
    ]
    return (
        attempt.number,
        utc(attempt.started_at),
        age((now - attempt.started_at).total_seconds()),
        None if attempt.duration_seconds is None else f"{attempt.duration_seconds:.3f} s",
        attempt.phase,
        attempt.outcome,
        answer,
        attempt.detail,
        ", ".join(remarks),
    )


def _alert(alert: AlertLine, now: datetime) -> tuple[object, ...]:
    return (
        alert.alert_id,
        alert.kind,
        utc(alert.created_at),
        age((now - alert.created_at).total_seconds()),
        alert.tries,
        utc(alert.sent_at) if alert.sent_at else "not yet",
        alert.receipt,
        alert.error,
    )


def _excerpt(content: bytes) -> str:
    shown = printable(content[:_EXCERPT_SHOWN])
    left = len(content) - _EXCERPT_SHOWN
    return f"{shown} ... and {left} bytes more (--json shows them)" if left > 0 else shown
