"""Pauses: what a person has stopped, and how it is let go again.

A pause of everything or of an endpoint is seen by each claim before it reads a single delivery. One
of a producer or of instruments cannot be: the claim that meets such a delivery puts it aside
(``parked``), and once no pause fits it any more the engines take it back, some at a time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.pausing import Pause
from signalpost.repository.auditing import Act, leave_trail
from signalpost.repository.looking import NOW

__all__ = [
    "Held",
    "Standing",
    "find_pause",
    "held_by",
    "list_pauses",
    "pause",
    "read_standing",
    "resume",
    "unpark",
]

_STANDING = text(f"""
SELECT EXISTS (
        SELECT FROM signalpost.endpoints e WHERE e.opened_at IS NOT NULL AND e.probe_at <= {NOW}
    ) AS probing, p.scope, p.value, p.endpoint_id, p.entries_only
FROM (VALUES (1)) one LEFT JOIN signalpost.pauses p ON true
""")

_LIST = text("""
SELECT p.scope, p.value, p.endpoint_id, p.entries_only, e.name AS endpoint, p.paused_at, p.actor,
    p.why
FROM signalpost.pauses p LEFT JOIN signalpost.endpoints e ON e.id = p.endpoint_id
ORDER BY p.paused_at, p.id
""")

_FITS = """CASE {p}.scope
    WHEN 'all' THEN true
    WHEN 'producer' THEN {p}.value = s.producer_id
    WHEN 'instrument' THEN s.instrument LIKE
        replace(replace(replace({p}.value, '_', '\\_'), '*', '%'), '?', '_')
    ELSE {p}.endpoint_id = d.endpoint_id END"""

_UNPARK = text(f"""
WITH free AS (
    SELECT d.id
    FROM signalpost.deliveries d JOIN signalpost.signals s ON s.id = d.signal_id
    WHERE d.status = 'pending' AND d.parked AND NOT EXISTS (
        SELECT FROM signalpost.pauses p
        WHERE p.scope IN ('producer', 'instrument') AND NOT (p.entries_only AND d.priority = 1)
          AND {_FITS.format(p="p")})
    ORDER BY d.position
    LIMIT :limit
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE signalpost.deliveries d SET parked = false FROM free WHERE d.id = free.id
""")

_PAUSE = text("""
INSERT INTO signalpost.pauses (scope, value, endpoint_id, entries_only, actor, why)
VALUES (:scope, :value, :endpoint_id, :entries_only, :actor, :why)
ON CONFLICT (scope, value, endpoint_id) DO UPDATE
SET entries_only = excluded.entries_only, actor = excluded.actor, why = excluded.why
RETURNING id
""")

_RESUME = text("""
DELETE FROM signalpost.pauses
WHERE scope = :scope AND value = :value
  AND endpoint_id IS NOT DISTINCT FROM CAST(:endpoint_id AS bigint)
RETURNING id, entries_only
""")

# A backlog starts slowly; see core/breaker.py.
_FIND = text("""
SELECT scope, value, endpoint_id, entries_only FROM signalpost.pauses
WHERE scope = :scope AND value = :value
  AND endpoint_id IS NOT DISTINCT FROM CAST(:endpoint_id AS bigint)
FOR UPDATE
""")

# Locked by a statement of its own, as endpoints are everywhere: one that changes them as well comes
# back to the versions that it saw at first, where those queue who wait for this very transaction.
_HOLD = text("""
SELECT id FROM signalpost.endpoints
WHERE removed_at IS NULL AND (CAST(:endpoint_id AS bigint) IS NULL OR id = :endpoint_id)
ORDER BY id
FOR NO KEY UPDATE
""")
_RELEASE = text(f"""
UPDATE signalpost.endpoints SET released_at = {NOW} WHERE id = ANY(CAST(:ids AS bigint[]))
""")

_HELD = text(f"""
WITH this AS (
    SELECT CAST(:scope AS text) AS scope, CAST(:value AS text) AS value,
        CAST(:endpoint_id AS bigint) AS endpoint_id
)
SELECT d.id, d.created_at, d.priority
FROM this CROSS JOIN signalpost.deliveries d JOIN signalpost.signals s ON s.id = d.signal_id
WHERE d.status = 'pending' AND {_FITS.format(p="this")}
  AND NOT (:entries_only AND d.priority = 1)
ORDER BY d.position
""")

_TELL = text("""
INSERT INTO signalpost.alerts (kind, endpoint_id, subject, details)
VALUES (:kind, :endpoint_id, :subject, CAST(:details AS jsonb))
ON CONFLICT (kind, endpoint_id, subject) WHERE sent_at IS NULL AND delivery_id IS NULL
DO UPDATE SET details = excluded.details
""")


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds up deliveries at this moment.

    ``probing``: an open breaker lets one delivery through to see.
    """

    pauses: tuple[Pause, ...]
    probing: bool


@dataclass(frozen=True, slots=True)
class Held:
    """What a pause holds back: how many, of these how many exits, and the oldest's enqueueing."""

    deliveries: list[UUID]
    exits: int
    oldest: datetime | None


def read_standing(connection: Connection, *, now: datetime | None = None) -> Standing:
    """Read all pauses, for the last check before a first byte."""
    rows = connection.execute(_STANDING, {"now": now}).all()
    return Standing(
        pauses=tuple(_pause(row) for row in rows if row.scope is not None),
        probing=rows[0].probing,
    )


def list_pauses(connection: Connection) -> Sequence[Row[Any]]:
    """All pauses with who, when and why, the oldest first."""
    return connection.execute(_LIST).all()


def find_pause(connection: Connection, what: Pause) -> Pause | None:
    """The pause of that scope as it stands, locked; None: there is none."""
    row = connection.execute(_FIND, _subject(what)).one_or_none()
    return None if row is None else _pause(row)


def held_by(connection: Connection, what: Pause) -> Held:
    """Count what a pause holds back, or would."""
    values = {**_subject(what), "entries_only": what.entries_only}
    rows = connection.execute(_HELD, values).all()
    return Held(
        deliveries=[row.id for row in rows],
        exits=sum(1 for row in rows if row.priority == 1),
        oldest=min((row.created_at for row in rows), default=None),
    )


def pause(connection: Connection, what: Pause, *, named: str, actor: str, why: str) -> Held:
    """Pause; audited and told. ``named`` says in a word what, for people.

    Returns:
        What is held back by it. The caller commits; within a second no first byte goes out.
    """
    values = {**_subject(what), "entries_only": what.entries_only, "actor": actor, "why": why}
    connection.execute(_PAUSE, values)
    held = held_by(connection, what)
    after = {"entries_only": what.entries_only, "held": len(held.deliveries), "exits": held.exits}
    _tell(connection, "paused", what, named=named, actor=actor, why=why, after=after)
    return held


def resume(connection: Connection, what: Pause, *, named: str, actor: str, why: str) -> bool:
    """End a pause; what waited goes out in order, slowly at first. False: there was none."""
    found = connection.execute(_RESUME, _subject(what)).all()
    if not found:
        return False
    if what.scope in ("all", "endpoint"):
        held = connection.execute(_HOLD, {"endpoint_id": what.endpoint_id}).scalars().all()
        connection.execute(_RELEASE, {"ids": held, "now": None})
    _tell(connection, "resumed", what, named=named, actor=actor, why=why, after={})
    return True


def unpark(connection: Connection, *, limit: int) -> int:
    """Take back up to ``limit`` deliveries that no pause fits any more, the oldest first."""
    return connection.execute(_UNPARK, {"limit": limit}).rowcount


def _subject(what: Pause) -> dict[str, Any]:
    return {"scope": what.scope, "value": what.value, "endpoint_id": what.endpoint_id}


def _tell(
    connection: Connection,
    action: str,
    what: Pause,
    *,
    named: str,
    actor: str,
    why: str,
    after: dict[str, Any],
) -> None:
    leave_trail(connection, [Act(named, None, after)], action, actor=actor, why=why)
    details = {"what": named, "by": actor, **{name: str(value) for name, value in after.items()}}
    connection.execute(
        _TELL,
        {
            "kind": action,
            "endpoint_id": what.endpoint_id,
            # An endpoint is named already; all else would be one and the same notice.
            "subject": "" if what.scope == "endpoint" else named,
            "details": json.dumps(details),
        },
    )


def _pause(row: Row[Any]) -> Pause:
    return Pause(row.scope, row.value, row.endpoint_id, row.entries_only)
