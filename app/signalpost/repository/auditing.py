"""The audit trail, written and read: who did what, when and why, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, insert, text

from signalpost.models import AuditRow

__all__ = ["Act", "AuditLine", "leave_trail", "list_audit", "prune_audit"]

LEAST_DAYS = 366
"""The trigger on the table refuses to delete anything younger."""


@dataclass(frozen=True, slots=True)
class Act:
    """What is written of an act: on which `subject`, what it found and what it left."""

    subject: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One act of a person, of the settings or of a breaker; `at` is database time."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    why: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


# An endpoint's acts are those on itself; each of its deliveries has its own.
_LIST = text("""
SELECT id, at, actor, action, subject, why, before, after FROM signalpost.audit
WHERE (CAST(:kinds AS text[]) IS NULL OR action = ANY(CAST(:kinds AS text[])))
  AND (CAST(:subjects AS text[]) IS NULL OR subject = ANY(CAST(:subjects AS text[])))
  AND (CAST(:since AS timestamptz) IS NULL OR at >= CAST(:since AS timestamptz))
  AND (CAST(:before AS bigint) IS NULL OR id < CAST(:before AS bigint))
ORDER BY id DESC
LIMIT :limit
""")

_PRUNE = text("""
DELETE FROM signalpost.audit WHERE id IN (
    SELECT id FROM signalpost.audit
    WHERE at < statement_timestamp() - make_interval(days => :days)
    ORDER BY id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED)
""")


def leave_trail(
    conn: Connection, acts: Sequence[Act], action: str, *, actor: str, why: str = ""
) -> None:
    """Write acts of one kind by one person, in the transaction of the acts themselves."""
    if acts:
        common = {"actor": actor, "action": action, "why": why}
        conn.execute(insert(AuditRow), [{**common, **asdict(act)} for act in acts])


def list_audit(
    conn: Connection,
    *,
    kinds: Sequence[str] = (),
    endpoint: str | None = None,
    delivery_id: UUID | None = None,
    since: datetime | None = None,
    before: int | None = None,
    limit: int = 200,
) -> list[AuditLine]:
    """Acts, the newest first, at most `limit`.

    Args:
        conn: in a transaction of the caller's.
        kinds: only these, of ACTS; none: all.
        endpoint: only what was done to the endpoint of this name.
        delivery_id: only what was done to this delivery.
        since: only those since.
        before: only those older than the act of this id: the next page.
        limit: how many.
    """
    subjects = []
    if endpoint is not None:
        subjects.append(f"endpoint {endpoint}")
    if delivery_id is not None:
        subjects.append(f"delivery {delivery_id}")
    values = {
        "kinds": list(kinds) or None,
        "subjects": subjects or None,
        "since": since,
        "before": before,
        "limit": limit,
    }
    return [AuditLine(**row) for row in conn.execute(_LIST, values).mappings()]


def prune_audit(connection: Connection, *, retention_days: int, limit: int) -> int:
    """Delete up to `limit` acts older than `retention_days`, and never one of the last year."""
    values = {"days": max(retention_days, LEAST_DAYS) + 1, "limit": limit}
    return connection.execute(_PRUNE, values).rowcount
