"""The circuit breaker of an endpoint: when it opens, when one delivery may try, when it closes.

Pure. While it is open nothing is claimed for its endpoint, so waiting costs neither attempts nor
messages. From ``probe_at`` on one delivery at a time may try (half-open); a success closes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

OPEN_AFTER_FAILURES = 10
OPEN_AFTER_SECONDS = 10.0
"""Opens after so many failures, with no success among them, over at least so many seconds."""

PROBE_AFTER_SECONDS = 5.0
PROBE_CAP_SECONDS = 60.0
"""The first probe comes after so long; each one that fails doubles the wait, up to the cap."""

RELEASE_PER_SECOND = 50.0
RELEASE_SECONDS = 8.0
"""A backlog that is let go starts with so many a second, twice as many each second that follows,
and after so many seconds it is bounded no more."""

LONG_OPEN_SECONDS = 300.0
"""Who is told that a breaker opened is told again when it has been open for so long."""

Event = Literal["opened", "closed"]


@dataclass(frozen=True, slots=True)
class Breaker:
    """An endpoint's recent past; ``opened_at`` is None while it is closed."""

    failures: int = 0
    failing_since: datetime | None = None
    opened_at: datetime | None = None
    probe_at: datetime | None = None
    probes: int = 0


@dataclass(frozen=True, slots=True)
class News:
    """What a group of attempts on one endpoint brought.

    ``answered``: the receiver took or judged at least one of them. ``failed``: how many it did not.
    ``probe_failed``: one of these was a probe. ``gone``: it said 410.
    """

    answered: bool = False
    failed: int = 0
    probe_failed: bool = False
    gone: bool = False


def judge(breaker: Breaker, news: News, *, now: datetime) -> tuple[Breaker, Event | None]:
    """Return the breaker after the news, and what there is to tell of it."""
    if news.gone:
        return _open(breaker, now) if breaker.opened_at is None else (_later(breaker, now), None)
    if news.answered:
        return Breaker(), None if breaker.opened_at is None else "closed"
    if not news.failed:
        return breaker, None
    since = breaker.failing_since or now
    failing = replace(breaker, failures=breaker.failures + news.failed, failing_since=since)
    if breaker.opened_at is not None:
        return (_later(failing, now) if news.probe_failed else failing), None
    lasting = (now - since).total_seconds() >= OPEN_AFTER_SECONDS
    if failing.failures >= OPEN_AFTER_FAILURES and lasting:
        return _open(failing, now)
    return failing, None


def _open(breaker: Breaker, now: datetime) -> tuple[Breaker, Event]:
    first = now + timedelta(seconds=PROBE_AFTER_SECONDS)
    return replace(breaker, opened_at=now, probe_at=first, probes=0), "opened"


def _later(breaker: Breaker, now: datetime) -> Breaker:
    probes = breaker.probes + 1
    wait = min(PROBE_AFTER_SECONDS * 2.0 ** min(probes, 16), PROBE_CAP_SECONDS)
    return replace(breaker, probe_at=now + timedelta(seconds=wait), probes=probes)
