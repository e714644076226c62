"""Which deliveries a person means by a filter: one meaning for lists, replays and cancellations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.core.lifecycle import Status

__all__ = ["Selection", "conditions", "select_ids"]


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter; what is None or empty is not asked for.

    `since` and `until` (both aware, `until` not included) are about the moment of enqueue.
    `endpoint` is a name; endpoints of that name that were removed count as well.
    """

    statuses: tuple[Status, ...] = ()
    endpoint: str | None = None
    instrument: str | None = None
    producer: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def narrows(self) -> bool:
        """Whether anything is asked for at all."""
        return self != Selection()


def conditions(selection: Selection) -> tuple[list[str], dict[str, Any]]:
    """The selection for a WHERE over `d` (deliveries), `s` (signals), `e` (endpoints)."""
    written: list[str] = []
    values: dict[str, Any] = {}
    if selection.statuses:
        # Literals, or the partial indexes could not be used.
        named = ", ".join(f"'{Status(status).value}'" for status in selection.statuses)
        written.append(f"d.status IN ({named})")
    for condition, name in (
        ("e.name = :endpoint", "endpoint"),
        ("s.instrument = :instrument", "instrument"),
        ("s.producer_id = :producer", "producer"),
        ("d.reason = :reason", "reason"),
        ("d.created_at >= CAST(:since AS timestamptz)", "since"),
        ("d.created_at < CAST(:until AS timestamptz)", "until"),
    ):
        value = getattr(selection, name)
        if value is not None:
            written.append(condition)
            values[name] = value
    return written, values


def select_ids(conn: Connection, selection: Selection, *, among: Sequence[Status]) -> list[UUID]:
    """The ids of all that the selection means, the oldest first.

    Args:
        conn: in a transaction of the caller's.
        selection: its `statuses` narrow `among` further.
        among: only these statuses.
    """
    found = []
    for status in among:
        if selection.statuses and status not in selection.statuses:
            continue
        written, values = conditions(selection)
        # One status at a time, so that each is read by its own partial index.
        where = " AND ".join([f"d.status = '{status.value}'", *written])
        statement = f"""SELECT d.created_at, d.id FROM signalpost.deliveries d
            JOIN signalpost.signals s ON s.id = d.signal_id
            JOIN signalpost.endpoints e ON e.id = d.endpoint_id
            WHERE {where}"""
        found += [(row.created_at, row.id) for row in conn.execute(text(statement), values)]
    return [delivery_id for _, delivery_id in sorted(found)]
