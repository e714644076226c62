"""The receiver's side: verify what arrives, act on it once, answer so that the sender understands.

`signalpost.verify` is for any framework; `Receiver` is a whole ASGI app around it.
"""

from __future__ import annotations

from signalpost.receiver.app import Receiver
from signalpost.receiver.book import Book, Reply
from signalpost.receiver.misbehaving import Misbehaving, abortable_http
from signalpost.receiver.postgres_book import PostgresBook
from signalpost.receiver.sqlite_book import SqliteBook
from signalpost.receiver.verdicts import Handler, Received, Refused, Seen, Verdict

__all__ = [
    "Book",
    "Handler",
    "Misbehaving",
    "PostgresBook",
    "Received",
    "Receiver",
    "Refused",
    "Reply",
    "Seen",
    "SqliteBook",
    "Verdict",
    "abortable_http",
]
