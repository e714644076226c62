"""Migrated databases for tests: each a clone of one template, dropped after use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql


def with_database(url: str, name: str) -> str:
    """The same server's address with another database."""
    return f"{url.rsplit('/', 1)[0]}/{name}"


@contextmanager
def cloned(server: str, template: str) -> Iterator[str]:
    """The address of a fresh clone of `template` on `server`, for as long as the block lasts."""
    name = f"test_{uuid4().hex[:12]}"
    create = sql.SQL("create database {} template {}")
    drop = sql.SQL("drop database {} with (force)")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        try:
            yield with_database(server, name)
        finally:
            connection.execute(drop.format(sql.Identifier(name)))
