"""What a message to the operator may say: read when it is claimed, labels only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

FIRST = 5
"""Of so many alerts a message tells more than their count."""


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """How the newest attempt of a delivery ended."""

    phase: str
    outcome: str
    status_code: int | None
    failure: str | None


@dataclass(frozen=True, slots=True)
class Letter:
    """The delivery that an alert is about, as it stands when the alert is claimed."""

    delivery_id: UUID
    signal_id: UUID
    instrument: str
    side: str
    action: str
    status: str
    reason: str | None
    attempts: int
    maybe_received: bool
    enqueued_at: datetime
    expires_at: datetime | None
    last: LastAttempt | None


@dataclass(frozen=True, slots=True)
class Notice:
    """One alert with all that a text may say of it; nothing private is in it.

    ``now`` is database time at the claim. ``letter`` is None where no delivery is concerned; then
    ``details`` are the labels that whoever raised it gave, and ``subject`` what it is about.
    """

    alert_id: int
    kind: str
    now: datetime
    endpoint: str | None
    letter: Letter | None
    details: Mapping[str, str] = field(default_factory=dict)
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """So many alerts of a message that stand alike."""

    count: int
    endpoint: str | None
    status: str | None
    reason: str | None
    maybe_received: bool


@dataclass(frozen=True, slots=True)
class Message:
    """Claimed alerts of one kind that go out together.

    ``claims`` are ids, each with its count of claims, which is the fencing token: only the newest
    claim may put an alert off. ``first`` are the oldest, in full. ``since`` and ``until``: when the
    first and the last of all were raised. ``tallies`` add up to all of them.
    """

    kind: str
    now: datetime
    claims: tuple[tuple[int, int], ...]
    first: tuple[Notice, ...]
    since: datetime
    until: datetime
    tallies: tuple[Tally, ...]

    @property
    def count(self) -> int:
        """How many alerts it covers."""
        return len(self.claims)

    @property
    def alert_ids(self) -> tuple[int, ...]:
        """The alerts that it covers."""
        return tuple(alert_id for alert_id, _ in self.claims)

    @property
    def tries(self) -> int:
        """How often the alert that was claimed most often has been."""
        return max(tries for _, tries in self.claims)


READ = text("""
SELECT a.id AS alert_id, a.kind, a.details, a.subject, e.name AS endpoint,
       d.id AS delivery_id, d.signal_id, s.instrument, s.side, s.action,
       d.status, d.reason, d.attempts, d.maybe_received, d.created_at AS enqueued_at, d.expires_at,
       last.phase, last.outcome, last.status_code, last.failure
FROM signalpost.alerts a
LEFT JOIN signalpost.deliveries d ON d.id = a.delivery_id
LEFT JOIN signalpost.signals s ON s.id = d.signal_id
LEFT JOIN signalpost.endpoints e ON e.id = COALESCE(a.endpoint_id, d.endpoint_id)
LEFT JOIN LATERAL (
    SELECT phase, outcome, status_code, failure FROM signalpost.attempts
    WHERE delivery_id = d.id ORDER BY number DESC LIMIT 1
) last ON true
WHERE a.id = ANY(CAST(:ids AS bigint[]))
ORDER BY a.id
""")

SPAN = text("""
SELECT min(created_at) AS since, max(created_at) AS until FROM signalpost.alerts
WHERE id = ANY(CAST(:ids AS bigint[]))
""")

TALLIES = text("""
SELECT count(*) AS count, e.name AS endpoint, d.status, d.reason,
       COALESCE(d.maybe_received, false) AS maybe_received
FROM signalpost.alerts a
LEFT JOIN signalpost.deliveries d ON d.id = a.delivery_id
LEFT JOIN signalpost.endpoints e ON e.id = COALESCE(a.endpoint_id, d.endpoint_id)
WHERE a.id = ANY(CAST(:ids AS bigint[]))
GROUP BY e.name, d.status, d.reason, COALESCE(d.maybe_received, false)
ORDER BY count(*) DESC, e.name, d.status, d.reason
""")


def read_message(
    connection: Connection,
    *,
    kind: str,
    claims: Sequence[tuple[int, int]],
    first: int,
    now: datetime,
) -> Message:
    """Read all that one message says of its alerts, and more of the ``first`` of them."""
    ids = [alert_id for alert_id, _ in claims]
    span = connection.execute(SPAN, {"ids": ids}).one()
    return Message(
        kind=kind,
        now=now,
        claims=tuple(claims),
        first=tuple(
            _notice(row, now) for row in connection.execute(READ, {"ids": sorted(ids)[:first]})
        ),
        since=span.since,
        until=span.until,
        tallies=tuple(Tally(**row) for row in connection.execute(TALLIES, {"ids": ids}).mappings()),
    )


def _notice(row: Row[Any], now: datetime) -> Notice:
    return Notice(
        alert_id=row.alert_id,
        kind=row.kind,
        now=now,
        endpoint=row.endpoint,
        letter=None if row.delivery_id is None else _letter(row),
        # Whatever somebody else wrote there, the alert is told.
        details={
            str(name): str(value)
            for name, value in (row.details.items() if isinstance(row.details, dict) else ())
        },
        subject=row.subject,
    )


def _letter(row: Row[Any]) -> Letter:
    last = None
    if row.outcome is not None:
        last = LastAttempt(row.phase, row.outcome, row.status_code, row.failure)
    return Letter(
        delivery_id=row.delivery_id,
        signal_id=row.signal_id,
        instrument=row.instrument,
        side=row.side,
        action=row.action,
        status=row.status,
        reason=row.reason,
        attempts=row.attempts,
        maybe_received=row.maybe_received,
        enqueued_at=row.enqueued_at,
        expires_at=row.expires_at,
        last=last,
    )
