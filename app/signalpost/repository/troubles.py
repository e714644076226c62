"""The troubles that were told and have not ended, and the refusals that a record raises."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.alerting import ENDS
from signalpost.core.troubles import Changes, Known, Trouble

__all__ = ["apply_changes", "known_troubles", "note_refusals", "try_lock"]

_WATCH_LOCK = 0x7761746368  # "watch"

_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock)")

_KNOWN = text("""
SELECT kind, subject, endpoint_id, details, began_at, told_at, seen_at FROM signalpost.troubles
ORDER BY kind, subject FOR UPDATE
""")

_WRITE = text("""
INSERT INTO signalpost.troubles AS known
    (kind, subject, endpoint_id, details, began_at, told_at, seen_at)
VALUES (:kind, :subject, :endpoint_id, CAST(:details AS jsonb), :now, :now, :now)
ON CONFLICT (kind, subject) DO UPDATE SET seen_at = excluded.seen_at, details = excluded.details
""")

_TOLD = text("""
UPDATE signalpost.troubles SET told_at = :now WHERE kind = :kind AND subject = :subject
""")

_DELETE = text("DELETE FROM signalpost.troubles WHERE kind = :kind AND subject = :subject")

# The same notice may wait to be sent still: then that one does.
_TELL = text("""
INSERT INTO signalpost.alerts (kind, endpoint_id, subject, details)
VALUES (:kind, :endpoint_id, :name, CAST(:details AS jsonb))
ON CONFLICT DO NOTHING
""")

# In the record's own transaction; known ones are touched now and then only, since an endpoint that
# refuses may do so hundreds of times a second. In one order, so that two records never wait for
# each other crosswise.
_REFUSED = text("""
WITH begun AS (
    INSERT INTO signalpost.troubles AS known (kind, subject, endpoint_id, details)
    SELECT DISTINCT ON (d.endpoint_id)
        'endpoint_refuses', d.endpoint_id::text, d.endpoint_id, CAST(news.details AS jsonb)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:details AS text[])) AS news (id, details)
    JOIN signalpost.deliveries d ON d.id = news.id
    ORDER BY d.endpoint_id
    ON CONFLICT (kind, subject) DO UPDATE SET seen_at = clock_timestamp()
    WHERE known.seen_at < clock_timestamp() - interval '10 seconds'
    RETURNING endpoint_id, details, known.xmax = 0 AS is_new
)
INSERT INTO signalpost.alerts (kind, endpoint_id, details)
SELECT 'endpoint_refuses', endpoint_id, details FROM begun WHERE is_new
ON CONFLICT DO NOTHING
""")


def try_lock(connection: Connection) -> bool:
    """Become the one that keeps the book until the transaction ends; False: another one does."""
    return bool(connection.execute(_TRY_LOCK, {"lock": _WATCH_LOCK}).scalar_one())


def known_troubles(connection: Connection) -> list[Known]:
    """Lock and list the troubles that have not ended."""
    return [_known(row) for row in connection.execute(_KNOWN)]


def apply_changes(connection: Connection, changes: Changes, *, now: datetime) -> None:
    """Write what has begun, lasts or is over, each with its alert, in one transaction.

    Args:
        connection: in a transaction that the caller commits.
        changes: of :func:`signalpost.core.troubles.compare`, from what was known in it.
        now: database time.
    """
    for trouble in (*changes.begun, *changes.seen):
        connection.execute(_WRITE, {**_columns(trouble), "now": now})
    for trouble in changes.begun:
        _tell(connection, trouble, trouble.kind, trouble.details)
    for each in changes.lasting:
        connection.execute(_TOLD, {**_key(each.trouble), "now": now})
        details = {**each.trouble.details, "since": _moment(each.began_at)}
        _tell(connection, each.trouble, each.trouble.kind, details)
    for each in changes.over:
        details = {"since": _moment(each.began_at), "until": _moment(each.seen_at)}
        _tell(connection, each.trouble, ENDS[each.trouble.kind], details)
    for each in (*changes.over, *changes.forgotten):
        connection.execute(_DELETE, _key(each.trouble))


def note_refusals(
    connection: Connection, refusals: Sequence[tuple[UUID, Mapping[str, str]]]
) -> None:
    """Tell of the first 401, 403 or 404 of an endpoint since it last accepted a delivery.

    Args:
        connection: in the transaction that records the attempts.
        refusals: deliveries that were answered so, each with labels for the operator.
    """
    values = {
        "ids": [delivery_id for delivery_id, _ in refusals],
        "details": [json.dumps(dict(details)) for _, details in refusals],
    }
    connection.execute(_REFUSED, values)


def _tell(connection: Connection, trouble: Trouble, kind: str, details: Mapping[str, str]) -> None:
    values = {
        "kind": kind,
        "endpoint_id": trouble.endpoint_id,
        "name": trouble.name,
        "details": json.dumps(dict(details)),
    }
    connection.execute(_TELL, values)


def _key(trouble: Trouble) -> dict[str, Any]:
    return {"kind": trouble.kind, "subject": trouble.subject}


def _columns(trouble: Trouble) -> dict[str, Any]:
    details = {**trouble.details, **({"name": trouble.name} if trouble.name else {})}
    return {
        **_key(trouble),
        "endpoint_id": trouble.endpoint_id,
        "details": json.dumps(details),
    }


def _known(row: Row[Any]) -> Known:
    details = {str(name): str(value) for name, value in row.details.items()}
    name = details.pop("name", "")
    trouble = Trouble(row.kind, row.subject, row.endpoint_id, details, name)
    return Known(trouble, row.began_at, row.told_at, row.seen_at)


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
