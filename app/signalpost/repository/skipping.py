"""Dead deliveries that hold up those behind them, and a person's word that they shall not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.repository.auditing import Act, leave_trail
from signalpost.repository.keys import lock_keys_of
from signalpost.repository.unblocking import release_blocked

__all__ = ["Blocking", "blocking", "skip"]


@dataclass(frozen=True, slots=True)
class Blocking:
    """A dead delivery of an ordered endpoint, and how many wait behind it."""

    delivery_id: UUID
    endpoint: str
    ordering_key: str
    instrument: str
    waiting: int
    maybe_received: bool


_BLOCKING = text("""
SELECT d.id AS delivery_id, e.name AS endpoint, d.ordering_key, s.instrument, (
        SELECT count(*) FROM signalpost.deliveries w
        WHERE w.endpoint_id = d.endpoint_id AND w.ordering_key = d.ordering_key
          AND w.status = 'pending') AS waiting, d.maybe_received
FROM signalpost.orderings o
JOIN signalpost.deliveries d ON d.id = o.blocked_by AND d.status = 'dead'
JOIN signalpost.signals s ON s.id = d.signal_id
JOIN signalpost.endpoints e ON e.id = o.endpoint_id
WHERE (CAST(:ids AS uuid[]) IS NULL OR d.id = ANY(CAST(:ids AS uuid[])))
  AND (CAST(:endpoint AS text) IS NULL OR e.name = :endpoint)
ORDER BY e.name, d.ordering_key
""")


def blocking(
    conn: Connection, delivery_ids: Sequence[UUID] | None = None, *, endpoint: str | None = None
) -> list[Blocking]:
    """The dead deliveries that hold up others: all, of these ids, or of one endpoint."""
    ids = None if delivery_ids is None else list(delivery_ids)
    rows = conn.execute(_BLOCKING, {"ids": ids, "endpoint": endpoint})
    return [Blocking(**row) for row in rows.mappings()]


def skip(
    conn: Connection, delivery_ids: Sequence[UUID], *, actor: str, why: str = ""
) -> list[Blocking]:
    """Let those go that wait behind these dead deliveries, which stay dead; audited.

    Args:
        conn: in a transaction that the caller commits, who rings then.
        delivery_ids: which; one that holds up nobody is left out of the answer.
        actor: who asks.
        why: the person's reason.
    """
    lock_keys_of(conn, delivery_ids)
    found = {one.delivery_id: one for one in blocking(conn, delivery_ids)}
    released = [found[one] for one in release_blocked(conn, list(found)) if one in found]
    acts = [
        Act(
            f"delivery {one.delivery_id}",
            {"blocks": one.ordering_key, "endpoint": one.endpoint},
            {"blocks": None, "let_go": one.waiting},
        )
        for one in released
    ]
    leave_trail(conn, acts, "skip", actor=actor, why=why)
    return released
