from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from signalpost import DatabaseUnavailable, EnqueueError, EnqueueTimeout
from signalpost.errors import SchemaError
from signalpost.producer.refusals import refused


class FromTheServer(Exception):
    """What a driver raises, with the SQLSTATE and the text that the server gave."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("Failing row contains (189.4567, a private reason)")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("53100", DatabaseUnavailable),  # disk full
        ("53200", DatabaseUnavailable),  # out of memory
        ("57P01", DatabaseUnavailable),  # being shut down
        ("58030", DatabaseUnavailable),  # the disk fails
        ("40P01", DatabaseUnavailable),  # a deadlock, lost again and again
        ("25006", DatabaseUnavailable),
        ("57014", EnqueueTimeout),
        ("55P03", EnqueueTimeout),
        ("42P01", SchemaError),
        ("42501", EnqueueError),
        ("22P02", EnqueueError),
        (None, EnqueueError),
    ],
)
def test_each_kind_of_refusal_is_told_as_what_helps(
    sqlstate: str | None, kind: type[EnqueueError]
) -> None:
    """What passes is told as such, so that a strategy calls again; the server's text stays out."""
    statement: Any = "INSERT"
    error = refused(DBAPIError(statement, {}, FromTheServer(sqlstate)), 2.0)
    assert type(error) is kind
    assert "private" not in str(error)
    assert "189" not in str(error)
