"""The same bad input through the Python API: one error of ours, and nothing is written."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from signalpost import Producer
from signalpost.core.signing import Profile
from signalpost.errors import (
    DatabaseUnavailable,
    NoEndpoint,
    SchemaError,
    SecretError,
    SettingError,
    SignalError,
    SignalpostError,
    SignatureError,
)
from signalpost.receiver import Receiver, SqliteBook
from signalpost.verifying import verify
from tests.databases import cloned
from tests.producing import fields, outbox, stored_ids

PRIVATE = "correct-horse"
NUMBER, ZONE = "such as 1.0850", "time zone, such as"


@pytest.fixture(scope="module")
def outbox_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """A database with an endpoint."""
    with outbox(postgres_server, migrated_template, "desk") as url:
        yield url


def refused(
    work: Callable[[], object], error: type[SignalpostError], cause: str, rest: str
) -> None:
    """The work fails with one line of ours that names cause and remedy and nothing private."""
    with pytest.raises(error) as caught:
        work()
    told = str(caught.value)
    assert cause in told
    assert rest in told
    assert "\n" not in told
    assert PRIVATE not in told + repr(caught.value)


def enqueue(url: str, **changes: Any) -> object:
    how = {name: changes.pop(name) for name in ("ttl", "endpoints", "key") if name in changes}
    with Producer(url, producer_id="tests", environ={}) as producer:
        return producer.enqueue({**fields(), "reason": PRIVATE, **changes}, **how)


@pytest.mark.parametrize(
    ("changes", "error", "cause", "remedy"),
    [
        ({"entry_price": math.nan}, SignalError, "entry_price: NaN and infinity", NUMBER),
        ({"entry_price": Decimal("NaN")}, SignalError, "entry_price: NaN and infinity", NUMBER),
        ({"entry_price": "NaN"}, SignalError, "entry_price: must be a number", NUMBER),
        ({"entry_price": -math.inf}, SignalError, "entry_price: NaN and infinity", NUMBER),
        ({"entry_price": True}, SignalError, "entry_price: must be", NUMBER),
        ({"entry_price": [PRIVATE]}, SignalError, "entry_price: must be", NUMBER),
        ({"entry_price": PRIVATE}, SignalError, "entry_price: must be", NUMBER),
        ({"timestamp": datetime(2026, 3, 2)}, SignalError, "timestamp: must carry", ZONE),  # noqa: DTZ001  that is the point
        ({"timestamp": "2026-03-02T21:00:00"}, SignalError, "timestamp: must be", "with zone"),
        ({"payload": {"x": PRIVATE * 9999}}, SignalError, "at most 65536", "raise OUTBOUND_MAX"),
        ({"ttl": 0}, SignalError, "ttl: must be", "None for a signal that never expires"),
        ({"ttl": math.nan}, SignalError, "ttl: must be", "above 0"),
        ({"endpoints": ["nobody"]}, NoEndpoint, "no endpoint named", "endpoint list"),
        ({"key": ""}, SignalError, "key: must be", "characters"),
    ],
)
def test_a_bad_signal_is_one_error_and_nothing_is_stored(
    outbox_url: str,
    changes: dict[str, Any],
    error: type[SignalpostError],
    cause: str,
    remedy: str,
) -> None:
    """Whatever is wrong with a signal is told by field and rule, never by value."""
    refused(lambda: enqueue(outbox_url, **changes), error, cause, remedy)

    assert stored_ids(outbox_url) == set()


def test_one_bad_signal_of_many_stores_none(outbox_url: str) -> None:
    """`enqueue_many` is all or nothing, whichever of them is bad."""
    good, bad = fields(), {**fields(), "entry_price": math.nan}
    with Producer(outbox_url, producer_id="tests", environ={}) as producer:
        refused(lambda: producer.enqueue_many([good, bad]), SignalError, "NaN", NUMBER)

    assert stored_ids(outbox_url) == set()


def test_a_database_that_cannot_be_used_is_told(
    outbox_url: str, postgres_server: str, migrated_template: str
) -> None:
    """Away, refusing, without tables or with newer ones: each has its own error and remedy."""
    head, _, tail = outbox_url.partition("@")
    with (
        socket.socket() as closed,
        cloned(postgres_server, "template1") as bare,
        cloned(postgres_server, migrated_template) as newer,
    ):
        closed.bind(("127.0.0.1", 0))
        with psycopg.connect(newer, autocommit=True) as connection:
            connection.execute("UPDATE signalpost.alembic_version SET version_num = '9999'")
        away = f"postgresql://u:{PRIVATE}@127.0.0.1:{closed.getsockname()[1]}/x"
        refusing = f"{head.rpartition(':')[0]}:{PRIVATE}@{tail}"
        for url, error, cause, remedy in (
            (away, DatabaseUnavailable, "cannot be reached", "DATABASE_URL"),
            (refusing, DatabaseUnavailable, "password", "DATABASE_URL"),
            (bare, SchemaError, "no tables", "signalpost migrate"),
            (newer, SchemaError, "newer than this release", "install the newer"),
        ):
            refused(lambda url=url: enqueue(url), error, cause, remedy)  # type: ignore[misc]
        with psycopg.connect(bare) as connection:
            found = connection.execute("SELECT to_regnamespace('signalpost')").fetchone()
        assert found == (None,)
        assert stored_ids(newer) == set()


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        ({}, "no database", "set DATABASE_URL"),
        ({"database_url": f"mysql://u:{PRIVATE}@h/x"}, "DATABASE_URL must be", "postgresql://"),
        (
            {"database_url": "postgresql://h/x", "redis_url": f"http://:{PRIVATE}@h"},
            "REDIS_URL must be",
            "redis://",
        ),
        (
            {"database_url": "postgresql://h/x", "producer_id": PRIVATE + " " + "x" * 64},
            "PRODUCER_ID must be",
            "1 to 64 letters",
        ),
    ],
)
def test_a_producer_that_cannot_work_is_not_made(
    tmp_path: Path, arguments: dict[str, str], cause: str, remedy: str
) -> None:
    """A wrong address or name is an error before the first signal, by the name of its setting."""
    nothing = {"XDG_DATA_HOME": str(tmp_path)}
    with_id = {"producer_id": "tests", **arguments}
    refused(lambda: Producer(**with_id, environ=nothing), SettingError, cause, remedy)


@pytest.mark.parametrize(
    ("secret", "cause", "remedy"),
    [
        ("horse", "at least 16 bytes", "take a longer one"),
        (f"whsec_{PRIVATE}!", "padded base64", "copy it anew"),
    ],
)
def test_a_bad_secret_makes_no_receiver(
    tmp_path: Path, secret: str, cause: str, remedy: str
) -> None:
    """A receiver with a secret that cannot work does not start, and `verify` says the same."""
    book = SqliteBook(tmp_path / "book.sqlite")
    url = "https://desk.example/in"
    refused(
        lambda: Receiver(secrets=[secret], public_url=url, book=book), SecretError, cause, remedy
    )
    book.close()
    refused(
        lambda: verify(
            method="POST",
            headers={},
            body=b"{}",
            url=url,
            secrets=[secret],
            profile=Profile.CANONICAL,
        ),
        SignatureError,
        cause,
        remedy,
    )


def test_a_wrong_redis_password_keeps_no_signal_back(outbox_url: str, redis_url: str) -> None:
    """Redis only makes it sooner: the signal is stored, and the answer says it was not told."""
    wrong = f"redis://:{PRIVATE}@{redis_url.rpartition('@')[2]}"
    with Producer(outbox_url, wrong, producer_id="tests", environ={}) as producer:
        stored = producer.enqueue(fields())

    assert stored.announced is False
    assert stored_ids(outbox_url) == {str(stored.signal_id)}
