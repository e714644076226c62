"""What an error of the database means for a signal, in the words of our own errors.

The server's own text may quote values of the row, so none of it is passed on; what is raised while
connecting tells the server's address and role only.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.exc import DBAPIError

from signalpost.errors import (
    DatabaseUnavailable,
    EnqueueError,
    EnqueueTimeout,
    EnqueueUnknown,
    SchemaError,
)

__all__ = ["refused", "unknown", "unreachable", "worth_another_try"]

# By SQLSTATE (PostgreSQL's documentation, appendix A).
_BY_STATE: Mapping[str, tuple[type[EnqueueError], str | None]] = {
    "25006": (
        DatabaseUnavailable,
        "PostgreSQL takes no writes (a standby?) and nothing was written; check DATABASE_URL",
    ),
    "42501": (
        EnqueueError,
        (
            "this database role may not use the outbox and nothing was written; grant it USAGE "
            "on schema signalpost, SELECT and INSERT on its tables and USAGE on its sequence "
            "positions; for supersede_key also UPDATE on deliveries and orderings"
        ),
    ),
    "42P01": (SchemaError, None),
    "3F000": (SchemaError, None),
    "42703": (SchemaError, None),
    "57014": (
        EnqueueTimeout,
        "PostgreSQL cancelled the statement (statement_timeout?), nothing was written; call again",
    ),
}

# Classes of SQLSTATE that say nothing about the signal: a transaction that lost against another,
# resources used up (a full disk, say), a server that is being stopped or started, a failing system.
_PASSING = ("40", "53", "57", "58")


def refused(error: DBAPIError, timeout: float, what: str = "signal") -> EnqueueError:
    """What a statement's error before COMMIT means; `timeout` is the call's, in seconds."""
    again = f"call again with the same {what}"
    state = _sqlstate(error)
    if error.connection_invalidated:
        return DatabaseUnavailable(
            f"the connection to PostgreSQL was lost before anything was written; {again}"
        )
    if state == "55P03":
        return EnqueueTimeout(
            f"another transaction kept the same {what} waiting for {timeout:g} s and "
            f"nothing was written; {again}"
        )
    if state in _BY_STATE:
        kind, message = _BY_STATE[state]
        return kind(message)
    if state[:2] in _PASSING:
        return DatabaseUnavailable(
            f"PostgreSQL could not take the {what} just now (SQLSTATE {state}) and nothing was "
            f"written; {again}"
        )
    return EnqueueError(
        f"PostgreSQL refused the {what} (SQLSTATE {state or 'unknown'}) and nothing was written"
    )


def unreachable(error: Exception, what: str = "signal") -> DatabaseUnavailable:
    """What an error while connecting means."""
    cause = str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
    if isinstance(error, UnicodeError):
        cause = "its host is no valid name"
    first_line = cause.strip().splitlines()[0] if cause.strip() else "no reason given"
    return DatabaseUnavailable(
        f"PostgreSQL cannot be reached ({first_line}) and nothing was written; check DATABASE_URL "
        f"and the server, then call again with the same {what}"
    )


def unknown(what: str) -> EnqueueUnknown:
    """`what` happened after COMMIT had been sent."""
    return EnqueueUnknown(
        f"{what}, so the signal may or may not be enqueued; call again with the same signal: "
        "it is recognised and never enqueued twice"
    )


def worth_another_try(error: DBAPIError) -> bool:
    """Whether the same work may succeed at once: a stale connection, or a deadlock that it lost."""
    return error.connection_invalidated or _sqlstate(error) in ("40P01", "40001")


def _sqlstate(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
