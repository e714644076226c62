"""The audit trail of one thing: who did what to it, when, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

__all__ = ["TrailLine", "trail_of"]


@dataclass(frozen=True, slots=True)
class TrailLine:
    """One act, with what it found and what it left; `at` is database time."""

    at: datetime
    actor: str
    action: str
    why: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


_TRAIL = text("""
SELECT at, actor, action, why, before, after FROM signalpost.audit
WHERE subject = :subject ORDER BY id
""")


def trail_of(conn: Connection, subject: str) -> tuple[TrailLine, ...]:
    """All that was done to `subject` (`delivery UUID`, `endpoint NAME`), the oldest first."""
    rows = conn.execute(_TRAIL, {"subject": subject})
    return tuple(TrailLine(**row) for row in rows.mappings())
