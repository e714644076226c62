"""Refusals that are mostly a wrong secret, a wrong URL or a wrong clock: what to tell of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from signalpost.core.outcomes import Answer

REFUSING_STATUSES = frozenset({401, 403, 404})
"""The first of these from an endpoint alerts at once: it concerns all that goes there."""


def refusal(answer: Answer, started_at: datetime) -> dict[str, str] | None:
    """The labels that tell of a refusal; None where the answer is none.

    Args:
        answer: what the attempt brought back; its ``Date`` header (RFC 9110, 6.6.1) tells the
            receiver's clock, to the second.
        started_at: database time when the attempt began.
    """
    if answer.status_code not in REFUSING_STATUSES:
        return None
    labels = {"answer": f"HTTP {answer.status_code}"}
    ahead = _ahead_seconds(answer.date, started_at + timedelta(seconds=answer.duration_seconds))
    if ahead is not None:
        direction = "ahead of" if ahead >= 0 else "behind"
        labels["receiver's clock"] = f"{abs(ahead):.0f} s {direction} the database's"
    return labels


def _ahead_seconds(date: str | None, now: datetime) -> float | None:
    if date is None:
        return None
    try:
        told = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    if told.tzinfo is None:
        told = told.replace(tzinfo=UTC)
    return (told - now).total_seconds()
