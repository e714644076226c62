"""`signalpost deliveries list --watch`: each delivery as it comes, changes and ends."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from signalpost.cli.choosing import select
from signalpost.cli.joining import find_settings, transaction
from signalpost.cli.printing import age, note, print_json_line, printable, utc, worded
from signalpost.cli.watching import watch

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from signalpost.repository.reading import DeliveryLine
    from signalpost.repository.selecting import Selection

__all__ = ["remark", "tail"]

_MOST = 2000
"""Changes of one kind that one look can tell."""

_REMEMBERED = 20_000
"""Deliveries whose last state is kept, to tell a change from what was told already."""

_LATE_COMMITS = timedelta(seconds=10)

State = tuple[object, ...]


def tail(
    data: Path | None,
    *,
    seconds: float,
    statuses: Sequence[str],
    filters: dict[str, Any],
    limit: int,
    as_json: bool,
) -> None:
    """Print the newest deliveries, the last one last, then each that comes or changes."""
    followed = _Followed(statuses, filters, limit, as_json=as_json)

    def look() -> None:
        settings = find_settings(data, quiet=as_json or followed.begun)
        with transaction(settings) as conn:
            followed.look(conn)

    def away(trouble: str) -> None:
        note(f"down: {trouble}")

    watch(look, away, seconds=seconds)


class _Followed:
    """What was told so far."""

    def __init__(
        self, statuses: Sequence[str], filters: dict[str, Any], limit: int, *, as_json: bool
    ) -> None:
        self._statuses = set(statuses)
        self._filters = filters
        self._limit = limit
        self._as_json = as_json
        self._told: OrderedDict[UUID, tuple[State, bool]] = OrderedDict()
        self._looked_at: datetime | None = None
        self._selection: Selection | None = None

    @property
    def begun(self) -> bool:
        return self._looked_at is not None

    def look(self, conn: Connection) -> None:
        """Tell what is new since the last look."""
        from signalpost.repository.changes import lines_since
        from signalpost.repository.reading import database_time, list_deliveries

        now = database_time(conn)
        if self._looked_at is None or self._selection is None:
            # Statuses are looked at here, not by the query: what leaves one is a change as well.
            self._selection = select(conn, **self._filters)
            asked = select(conn, statuses=sorted(self._statuses), **self._filters)
            self._tell(reversed(list_deliveries(conn, asked, limit=self._limit)), now)
            for line in lines_since(conn, now - _LATE_COMMITS, [], self._selection, most=_MOST):
                self._told.setdefault(line.delivery_id, (_state(line), line.status.terminal))
        else:
            known = [one for one, (_, terminal) in self._told.items() if not terminal]
            found = lines_since(
                conn, self._looked_at - _LATE_COMMITS, known, self._selection, most=_MOST
            )
            self._tell(found, now)
        self._looked_at = now

    def _tell(self, lines: Any, now: datetime) -> None:
        for line in lines:
            state = _state(line)
            if self._told.get(line.delivery_id, (None, False))[0] == state:
                continue
            self._told[line.delivery_id] = (state, line.status.terminal)
            self._told.move_to_end(line.delivery_id)
            if not self._statuses or line.status.value in self._statuses:
                self._print(line, now)
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)

    def _print(self, line: DeliveryLine, now: datetime) -> None:
        if self._as_json:
            print_json_line({**asdict(line), "seen_at": now})
            return
        moment = line.finished_at or (now if self.begun else line.created_at)
        words = (
            utc(moment),
            str(line.delivery_id),
            line.instrument.ljust(6),
            line.side.ljust(4),
            printable(line.endpoint),
            worded(line.status.value),
            f"attempt {line.attempts}" if line.attempts else "",
            remark(line, now),
        )
        click.echo("  ".join(filter(None, words)))


def remark(line: DeliveryLine, now: datetime) -> str:
    """Why it stands where it does, and when something is due."""
    waiting = ""
    if line.status == "pending" and line.next_attempt_at is not None:
        until = (line.next_attempt_at - now).total_seconds()
        waiting = f"next in {age(until)}" if until > 0 else f"due for {age(-until)}"
    # While it is being sent, the reason is still that of the attempt before.
    reason = None if line.status == "sending" else line.reason
    return "; ".join(filter(None, (reason, waiting)))


def _state(line: DeliveryLine) -> State:
    return (line.status, line.attempts, line.reason, line.finished_at)
