"""Any error as one line: what went wrong and what to do about it; never a secret, never a body."""

from __future__ import annotations

import sys

import click

from signalpost.errors import SettingError, SignalpostError

__all__ = ["explain", "passes"]

_TELLTALES = (
    ("password authentication failed", "PostgreSQL refuses the password", "correct DATABASE_URL"),
    ("no password supplied", "PostgreSQL wants a password", "put one into DATABASE_URL"),
    ('relation "signalpost.', "the tables are missing", "run `signalpost migrate`"),
    ('schema "signalpost"', "the tables are missing", "run `signalpost migrate`"),
    ("does not exist", "PostgreSQL has no such database or role", "create it or correct the URL"),
    ("could not translate host name", "the host of DATABASE_URL is unknown", "correct the URL"),
    ("failed to resolve host", "the host of DATABASE_URL is unknown", "correct the URL"),
    ("starting up", "PostgreSQL is still starting", "try again in a moment"),
    ("shutting down", "PostgreSQL is shutting down", "try again when it is back"),
    ("too many clients", "PostgreSQL has no connection left", "raise max_connections"),
    ("canceling statement due to", "PostgreSQL did not answer in time", "try again"),
)

# click names its types; people write numbers.
_NUMBERS = {
    "is not a valid integer range": "is no whole number",
    "is not a valid float range": "is no number",
}


def explain(error: BaseException) -> str:
    """The one line for `error`."""
    if isinstance(error, click.ClickException):
        told = _one_line(error.format_message())
        for clicks, ours in _NUMBERS.items():
            told = told.replace(clicks, ours)
        return told
    if isinstance(error, SignalpostError):
        return _one_line(str(error))
    if line := _database_line(error):
        return line
    if isinstance(error, UnicodeEncodeError):
        return "a word of the command is not text in UTF-8; write it anew"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return _one_line(f"{place}{error.strerror}")
    return (
        f"an error that should not happen ({type(error).__name__}); "
        "run the same command with --debug and report what it shows"
    )


def passes(error: Exception) -> bool:
    """Whether it is trouble of the servers, which may be well again a moment later."""
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    if isinstance(error, BrokenPipeError):
        return False
    return isinstance(error, DBAPIError | PoolTimeout | OSError | SettingError)


def _database_line(error: BaseException) -> str | None:
    if "sqlalchemy" not in sys.modules:
        return None
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    if isinstance(error, PoolTimeout):
        return "PostgreSQL did not give a connection in time; see whether it is up and try again"
    if not isinstance(error, DBAPIError) or error.orig is None:
        return None
    # The driver's text names host, role and database; a row's content it tells only in DETAIL,
    # below the first line.
    told = str(error.orig).strip().partition("\n")[0]
    for telltale, cause, remedy in _TELLTALES:
        if telltale in told:
            return f"{cause}; {remedy}"
    if "connection" in told.lower():
        return (
            "PostgreSQL cannot be reached; see whether it is up and what DATABASE_URL says "
            f"({_one_line(told)})"
        )
    return f"PostgreSQL refused a statement ({type(error.orig).__name__}); see its log"


def _one_line(text: str) -> str:
    return " ".join(text.split())
