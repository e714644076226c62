"""Breakers: the news of a group of attempts, judged endpoint by endpoint and written down.

Only where there is news: a healthy endpoint's successes cost nothing here. The endpoints' rows are
locked last of all that a record locks, in the order of their ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from signalpost.core.breaker import (
    LONG_OPEN_SECONDS,
    PROBE_CAP_SECONDS,
    Breaker,
    Event,
    News,
    judge,
)
from signalpost.core.outcomes import Failure, Outcome, Verdict
from signalpost.repository.looking import NOW

__all__ = ["Heard", "note", "tell_long_open", "unheld"]

_NO_FAULT_OF_THEIRS = frozenset({Failure.LOST.value, Failure.INTERNAL.value})

_LOCK = text(f"""
SELECT id, name, failures, failing_since, opened_at, probe_at, probes, {NOW} AS now
FROM signalpost.endpoints
WHERE id = ANY(CAST(:ids AS bigint[]))
ORDER BY id
FOR NO KEY UPDATE
""")

# An alert needs the weaker lock: its row refers to the endpoint's.
_LOCK_FREE = """
SELECT id FROM signalpost.endpoints WHERE id = ANY(CAST(:ids AS bigint[]))
ORDER BY id
"""
_REFER_FREE = text(f"{_LOCK_FREE} FOR KEY SHARE SKIP LOCKED")
_CHANGE_FREE = text(f"{_LOCK_FREE} FOR NO KEY UPDATE SKIP LOCKED")

_WRITE = text("""
UPDATE signalpost.endpoints
SET failures = :failures, failing_since = :failing_since, opened_at = :opened_at,
    probe_at = :probe_at, probes = :probes, released_at = COALESCE(:released_at, released_at)
WHERE id = :id
""")

_TELL = text("""
WITH audited AS (
    INSERT INTO signalpost.audit (actor, action, subject, why, before, after)
    VALUES ('breaker', :action, :subject, :why, CAST(:before AS jsonb), CAST(:after AS jsonb))
)
INSERT INTO signalpost.alerts (kind, endpoint_id, details)
VALUES (:kind, :id, CAST(:details AS jsonb))
ON CONFLICT DO NOTHING
RETURNING id
""")

# The same breaker's opening is told as lasting once, and again when it is told once more.
_LONG_OPEN = text(f"""
INSERT INTO signalpost.alerts (kind, endpoint_id, details)
SELECT 'breaker_long_open', e.id, jsonb_build_object('endpoint', e.name, 'waiting', (
        SELECT count(*) FROM (
            SELECT FROM signalpost.deliveries d
            WHERE d.endpoint_id = e.id AND d.status IN ('pending', 'sending')
            LIMIT 100000) w)::text)
FROM signalpost.endpoints e
WHERE e.opened_at < {NOW} - make_interval(secs => {LONG_OPEN_SECONDS})
  AND NOT EXISTS (
    SELECT FROM signalpost.alerts a
    WHERE a.kind = 'breaker_long_open' AND a.endpoint_id = e.id AND a.created_at > e.opened_at)
ON CONFLICT DO NOTHING
RETURNING id
""")


# No moment of these is ever so far ahead, unless the database's clock was set back.
_AHEAD = text(f"""
SELECT id FROM signalpost.endpoints
WHERE opened_at > {NOW} + interval '1 second' OR failing_since > {NOW} + interval '1 second'
    OR released_at > {NOW} + interval '1 second'
    OR probe_at > {NOW} + make_interval(secs => {PROBE_CAP_SECONDS} + 1)
ORDER BY id
FOR NO KEY UPDATE
""")
_HEAL = text(f"""
UPDATE signalpost.endpoints
SET opened_at = LEAST(opened_at, {NOW}), failing_since = LEAST(failing_since, {NOW}),
    released_at = LEAST(released_at, {NOW}),
    probe_at = LEAST(probe_at, {NOW} + make_interval(secs => {PROBE_CAP_SECONDS}))
WHERE id = ANY(CAST(:ids AS bigint[]))
""")


@dataclass(frozen=True, slots=True)
class Heard:
    """One attempt's news for its endpoint's breaker; ``troubled`` as it was known at its claim."""

    endpoint_id: int
    claimed_at: datetime
    verdict: Verdict
    troubled: bool

    @property
    def failed(self) -> bool:
        """Whether the receiver neither took nor judged it."""
        return (
            self.verdict.outcome in (Outcome.RETRY, Outcome.UNKNOWN)
            and self.verdict.counted
            and self.verdict.reason not in _NO_FAULT_OF_THEIRS
        )

    @property
    def answered(self) -> bool:
        """Whether the receiver took it, or judged it."""
        return self.verdict.outcome in (Outcome.DELIVERED, Outcome.REJECTED)

    @property
    def tells(self) -> bool:
        """Whether a breaker may change by it; what a worker lost or let go says nothing."""
        return self.failed or self.gone or (self.troubled and self.answered)

    @property
    def gone(self) -> bool:
        """Whether the receiver says that there is nothing any more."""
        return self.verdict.outcome is Outcome.GONE


def note(
    connection: Connection, heard: Sequence[Heard], *, now: datetime | None = None
) -> list[int]:
    """Write down what attempts say of their endpoints; return the alerts that this raised."""
    concerned = {one.endpoint_id for one in heard if one.tells}
    if not concerned:
        return []
    alerts = []
    for row in connection.execute(_LOCK, {"ids": sorted(concerned), "now": now}).all():
        mine = [one for one in heard if one.endpoint_id == row.id]
        before = _breaker(row)
        after, event = judge(before, _news(mine, row.probe_at), now=row.now)
        if after != before:
            released_at = row.now if event == "closed" else None
            values = {name: getattr(after, name) for name in Breaker.__dataclass_fields__}
            connection.execute(_WRITE, {**values, "id": row.id, "released_at": released_at})
        if event is not None:
            alerts.extend(_tell(connection, row, event, after))
    return alerts


def unheld(connection: Connection, heard: Sequence[Heard]) -> set[int]:
    """Lock at once what nobody else holds of the endpoints that these concern; return those."""
    named = {one.endpoint_id for one in heard}
    changed = {one.endpoint_id for one in heard if one.tells}
    free: set[int] = set()
    for statement, ids in ((_REFER_FREE, named - changed), (_CHANGE_FREE, changed)):
        if ids:
            free.update(connection.execute(statement, {"ids": sorted(ids)}).scalars())
    return free


def tell_long_open(connection: Connection, *, now: datetime | None = None) -> list[int]:
    """Raise an alert for every breaker that has been open for long, once an opening."""
    ahead = connection.execute(_AHEAD, {"now": now}).scalars().all()
    if ahead:
        connection.execute(_HEAL, {"ids": ahead, "now": now})
    return list(connection.execute(_LONG_OPEN, {"now": now}).scalars())


def _news(heard: Sequence[Heard], probe_at: datetime | None) -> News:
    failed = [one for one in heard if one.failed or one.gone]
    return News(
        answered=any(one.answered for one in heard),
        failed=len(failed),
        probe_failed=probe_at is not None and any(one.claimed_at >= probe_at for one in failed),
        gone=any(one.gone for one in heard),
    )


def _breaker(row: Row[Any]) -> Breaker:
    return Breaker(row.failures, row.failing_since, row.opened_at, row.probe_at, row.probes)


def _tell(connection: Connection, row: Row[Any], event: Event, after: Breaker) -> list[int]:
    details: Mapping[str, str] = {"endpoint": row.name}
    if event == "opened":
        details = {**details, "failures": str(after.failures)}
    values = {
        "id": row.id,
        "kind": f"breaker_{event}",
        "action": f"breaker {event}",
        "subject": f"endpoint {row.name}",
        "why": f"{after.failures} failures" if event == "opened" else "a probe succeeded",
        "before": json.dumps({"open": row.opened_at is not None}),
        "after": json.dumps({"open": after.opened_at is not None}),
        "details": json.dumps(details),
    }
    return list(connection.execute(_TELL, values).scalars())
