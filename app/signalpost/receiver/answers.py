"""A verdict and the answer that goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from signalpost.core.instants import rfc3339
from signalpost.receiver.book import Mark, Marked, Reply
from signalpost.receiver.verdicts import Received, Seen, Verdict

__all__ = ["Answer", "answer_of", "come_again", "content_of", "place", "refusal", "rejected"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is told of a request, and what is answered."""

    seen: Seen
    reply: Reply
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(verdict: Verdict, status_code: int, detail: str, *errors: str) -> Answer:
    """The answer to a request whose signal nobody has read."""
    told = "; ".join((detail, *errors))
    return Answer(Seen(verdict, status_code, told), rejected(detail, *(errors or (detail,))))


def come_again(received: Received, verdict: Verdict, detail: str) -> Answer:
    """The answer to a request that may do better a little later."""
    return Answer(Seen.of(received, verdict, 503, detail), rejected(detail), {"retry-after": "1"})


def answer_of(received: Received, marked: Marked) -> Answer:
    """The answer to a request that the book has had its say on."""
    if marked.mark is Mark.NEW:
        return Answer(Seen.of(received, Verdict.ACCEPTED, 201), marked.reply)
    if marked.mark is Mark.DUPLICATE:
        return Answer(Seen.of(received, Verdict.DUPLICATE, 200), marked.reply)
    if marked.mark is Mark.STALE:
        verdict = Verdict.STALE
        detail = (
            f"X-Signalpost-Sequence: {received.verified.sequence} comes after {marked.last} of "
            "the same ordering key, which has been acted on"
        )
    else:
        verdict, detail = Verdict.REFUSED, "X-Idempotency-Key: is known with another body"
    return Answer(Seen.of(received, verdict, 422, detail), rejected(detail, detail))


def rejected(message: str, *errors: str) -> Reply:
    """A reply in the words of a refusal."""
    return Reply("rejected", message, errors)


def place(error: Exception) -> str:
    """Where an error was raised, as ` at function:line`, so that its own words are not needed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else ""


def content_of(signal_id: str | None, reply: Reply, now: datetime) -> dict[str, Any]:
    """What the sender reads; `now` is the receiver's time, aware."""
    return {
        "signal_id": signal_id,
        "status": reply.status,
        "server_timestamp": rfc3339(now),
        "message": reply.message,
        "errors": list(reply.errors),
    }
