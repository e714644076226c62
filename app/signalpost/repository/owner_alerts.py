"""Alerts that a strategy raises itself: a text, or a signal that was not delivered directly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from sqlalchemy import Connection, text

__all__ = ["store_owner_alert"]

SUBJECT_CHARACTERS = 60

# What is in the way is the same alert, still unsent: touched, so that its id comes back.
_STORE = text("""
INSERT INTO signalpost.alerts AS a (kind, subject, details)
VALUES (:kind, :subject, CAST(:details AS jsonb))
ON CONFLICT (kind, endpoint_id, subject) WHERE sent_at IS NULL AND delivery_id IS NULL
DO UPDATE SET subject = a.subject
RETURNING id
""")


def store_owner_alert(connection: Connection, *, kind: str, details: Mapping[str, str]) -> int:
    """Write an alert; `details` are shown to the operator.

    Args:
        connection: in a transaction that the caller commits.
        kind: `owner` or `delivery_error`.
        details: texts by their names.

    Returns:
        The alert's id, or that of the same one which is not sent yet.
    """
    clean = {name: _printable(value) for name, value in details.items()}
    values = {"kind": kind, "subject": _subject(clean), "details": json.dumps(clean)}
    return int(connection.execute(_STORE, values).scalar_one())


def _subject(details: Mapping[str, str]) -> str:
    """A short name for listings, its own for each content."""
    digest = hashlib.sha256(json.dumps(details).encode()).hexdigest()[:8]
    first = " ".join(next(iter(details.values())).split())
    return f"{first[:SUBJECT_CHARACTERS]} #{digest}"


def _printable(value: str) -> str:
    """Without what JSON in PostgreSQL cannot hold, and what could hide on a screen."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in value)
