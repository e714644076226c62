"""How a command finds its system: the shared options, the settings, the database, who is asking."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from signalpost.cli.printing import note

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from signalpost.settings import Settings

__all__ = [
    "actor",
    "address",
    "committing",
    "data_option",
    "debug_option",
    "examples",
    "find_settings",
    "json_option",
    "open_engine",
    "shared_options",
    "transaction",
]

_DOUBT = (
    "the connection broke while PostgreSQL committed: it may have been done, or not; "
    "see `signalpost audit list` before you do it again"
)

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")

debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
)

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Use the stack that runs in this data folder.",
)


def shared_options(command: Command) -> Command:
    """`--data` and `--debug`, for every command that joins a running system."""
    return data_option(debug_option(command))


def find_settings(data: Path | None, *, quiet: bool = False, servers: bool = True) -> Settings:
    """The settings of this environment and its `.env`; a remark says which database.

    `servers`: whether the command has any use for a database or a Redis. Raises SettingError.
    """
    from signalpost.settings import load_settings

    settings = load_settings(os.environ, data_folder=data, dotenv=Path(".env"), servers=servers)
    if not quiet and servers:
        note(f"database: {address(settings.database_url)} ({settings.database_source})")
    return settings


def address(url: str) -> str:
    """A server's URL as an operator would write it, without its password."""
    from signalpost.database import password_free

    return password_free(url).replace("postgresql+psycopg://", "postgresql://", 1)


@contextmanager
def open_engine(settings: Settings) -> Iterator[Engine]:
    """An engine on the outbox, whose tables are checked; raises SchemaError."""
    from signalpost.database import check_schema, sync_engine

    engine = sync_engine(settings.database_url)
    try:
        with engine.connect() as conn:
            check_schema(conn)
        yield engine
    finally:
        engine.dispose()


@contextmanager
def transaction(settings: Settings) -> Iterator[Connection]:
    """One transaction on the outbox, committed at a good end; raises SchemaError."""
    with open_engine(settings) as engine, committing(engine) as conn:
        yield conn


@contextmanager
def committing(engine: Engine) -> Iterator[Connection]:
    """A transaction, committed at a good end; where its COMMIT is never answered, that is said."""
    from sqlalchemy.exc import DBAPIError

    ended = False
    try:
        with engine.begin() as conn:
            yield conn
            ended = True
    except DBAPIError as error:
        if ended and error.connection_invalidated:
            raise click.ClickException(_DOUBT) from error
        raise


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def actor() -> str:
    """Who acts, for the audit trail: the account of the operating system."""
    try:
        return f"user {getpass.getuser()}"
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
