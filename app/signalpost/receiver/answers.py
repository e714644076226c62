"""A verdict and the answer that goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from signalpost.receiver.book import Reply
from signalpost.receiver.verdicts import Seen, Verdict

__all__ = ["Answer", "place", "refusal", "rejected"]


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


def rejected(message: str, *errors: str) -> Reply:
    """A reply in the words of a refusal."""
    return Reply("rejected", message, errors)


def place(error: Exception) -> str:
    """Where an error was raised, as ` at function:line`, so that its own words are not needed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else ""
