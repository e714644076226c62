from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, text

from signalpost.core.signing import secret_bytes
from signalpost.errors import EndpointError, SecretError, SettingError
from signalpost.models import AuditRow, EndpointRow
from signalpost.repository.default_endpoint import ensure_default_endpoint
from signalpost.repository.endpoints import (
    NewEndpoint,
    add_endpoint,
    get_endpoint,
    list_endpoints,
    new_secret,
    reveal_secret,
)
from signalpost.secretbox import SecretBox
from signalpost.settings import Settings

BATTERY = "correct horse battery staple"
DESK = NewEndpoint(name="desk", url="https://desk.example/signals?from=us", secret=BATTERY)
SETTINGS = Settings(
    database_url="postgresql://unused",
    outbound_server_url="https://receiver.example/signals",
    hmac_producer_secret=BATTERY,
)
BOX = SecretBox([SecretBox.new_key()])


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    """A connection whose transaction is rolled back."""
    with engine.connect() as connection:
        yield connection


def add(conn: Connection, new: NewEndpoint, settings: Settings = SETTINGS) -> None:
    add_endpoint(conn, new, settings, BOX, actor="alice")


def trail(conn: Connection) -> list[AuditRow]:
    return [
        AuditRow(**row)
        for row in conn.execute(select(AuditRow.__table__).order_by(text("id"))).mappings()
    ]


def changed(policy: dict[str, Any]) -> NewEndpoint:
    return replace(DESK, **policy)


def allowing(*networks: str) -> Settings:
    return Settings.model_validate({**SETTINGS.model_dump(), "outbound_allow_networks": networks})


def test_an_endpoint_comes_back_as_it_was_added(conn: Connection) -> None:
    """What was given is found by name, with its own policy and the secret's first version."""
    policy: dict[str, Any]
    policy = {"timeout_seconds": 7.5, "max_retries": 2, "retry_delay_seconds": 1, "ttl_seconds": 60}
    new = NewEndpoint(name="desk", url=DESK.url, secret=BATTERY, on_unknown="stop", **policy)
    added = add_endpoint(conn, new, SETTINGS, BOX, actor="alice")
    assert get_endpoint(conn, "desk") == added
    kept = {"url": DESK.url, "secret_version": 1, "removed_at": None, "on_unknown": "stop"}
    assert {name: getattr(added, name) for name in (*kept, *policy)} == {**kept, **policy}


def test_a_secret_is_stored_encrypted_and_told_on_demand(conn: Connection) -> None:
    """Neither the table nor any repr holds a readable secret, and it comes back when asked for."""
    add(conn, DESK)
    stored = conn.scalars(select(EndpointRow.secret_ciphertext)).one()
    assert BATTERY.encode() not in stored
    assert BATTERY not in repr(DESK)
    assert BATTERY not in repr(get_endpoint(conn, "desk"))
    assert reveal_secret(conn, "desk", BOX) == BATTERY
    with pytest.raises(SecretError):
        reveal_secret(conn, "desk", SecretBox([SecretBox.new_key()]))


def test_an_addition_leaves_a_trail_without_the_secret(conn: Connection) -> None:
    """The audit tells who added what, and nothing of the secret but its version."""
    add(conn, DESK)
    [row] = trail(conn)
    assert (row.actor, row.action, row.subject) == ("alice", "endpoint added", "endpoint desk")
    assert row.before is None
    assert row.after is not None
    assert (row.after["url"], row.after["secret_version"]) == (DESK.url, 1)
    assert BATTERY not in str(row.after)
    assert "ciphertext" not in str(row.after)


def test_a_generated_secret_is_good_and_new() -> None:
    """A secret made for somebody has 32 bytes in the form Standard Webhooks wants, never twice."""
    first, second = new_secret(), new_secret()
    assert first.startswith("whsec_")
    assert len(secret_bytes(first)) == 32
    assert first != second


def test_a_taken_name_is_refused(conn: Connection) -> None:
    """Two living endpoints never have one name; a removed one gives its name free."""
    add(conn, DESK)
    with pytest.raises(EndpointError, match="there is an endpoint named desk already"):
        add(conn, DESK)
    conn.execute(text("UPDATE signalpost.endpoints SET removed_at = now()"))
    add(conn, DESK)
    assert len(list_endpoints(conn)) == 1
    assert len(list_endpoints(conn, removed=True)) == 2


def test_an_unknown_name_is_told(conn: Connection) -> None:
    """A name that no living endpoint has is an error that says where to look."""
    with pytest.raises(EndpointError, match="no endpoint named 'desk'"):
        get_endpoint(conn, "desk")


def test_endpoints_are_listed_by_name(conn: Connection) -> None:
    """A listing is in the order of names."""
    for name in ("b", "c", "a"):
        add(conn, replace(DESK, name=name))
    assert [view.name for view in list_endpoints(conn)] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "desk\n", "ä", "a/b"])
def test_a_bad_name_is_refused(conn: Connection, name: str) -> None:
    """A name is 1 to 64 letters, digits, dots, underscores and hyphens."""
    with pytest.raises(EndpointError, match="1 to 64"):
        add(conn, replace(DESK, name=name))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://desk.example/", "must look like"),
        ("https:///signals", "host"),
        ("https://alice:wonderland@desk.example/", "no user and password"),
        ("https://@desk.example/", "no user and password"),
        ("https://desk.example/#top", "no fragment"),
        ("https://desk.example:0/", "port"),
        ("http://desk.example/", "must be https"),
        ("http://203.0.114.9/", "must be https"),
        ("http://localhost:8000/", "is a loopback address"),
        ("https://localhost/", "is a loopback address"),
        ("https://127.0.0.1/", "is a loopback address"),
        ("https://[::1]/", "is a loopback address"),
        ("https://[::ffff:10.0.0.1]/", "is a private address"),
        ("https://169.254.169.254/latest", "is a cloud metadata address"),
        ("https://2130706433/", "no name and no complete address"),
        ("https://0x7f.1/", "no name and no complete address"),
    ],
)
def test_a_url_that_no_delivery_may_go_to_is_refused(conn: Connection, url: str, told: str) -> None:
    """Without allowed networks only https to public places is taken, and the line says why not."""
    with pytest.raises(EndpointError, match=told) as caught:
        add(conn, replace(DESK, url=url))
    assert "wonderland" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/",
        "http://localhost:8000/",
        "https://127.9.9.9/",
        "http://receiver.internal/",  # whether its address is allowed is asked at each connection
        "https://desk.example/",
        "https://203.0.114.9/",
    ],
)
def test_allowed_networks_open_private_targets(conn: Connection, url: str) -> None:
    """What OUTBOUND_ALLOW_NETWORKS holds may be a target, by plain http too."""
    add(conn, replace(DESK, url=url), allowing("127.0.0.0/8"))


def test_allowed_networks_open_nothing_else(conn: Connection) -> None:
    """One allowed network is no permission for another, nor for http to public addresses."""
    for url in ("http://10.0.0.1/", "https://10.0.0.1/", "http://203.0.114.9/"):
        with pytest.raises(EndpointError):
            add(conn, replace(DESK, url=url), allowing("127.0.0.0/8"))


@pytest.mark.parametrize("secret", ["", "short", "x" * 15, "whsec_%%%", "whsec_YQ=="])
def test_a_bad_secret_is_refused(conn: Connection, secret: str) -> None:
    """A secret needs 16 bytes, and base64 where it says so."""
    with pytest.raises(SecretError):
        add(conn, replace(DESK, secret=secret))


@pytest.mark.parametrize(
    "policy",
    [
        {"timeout_seconds": 4.9},
        {"timeout_seconds": 301},
        {"timeout_seconds": float("nan")},
        {"max_retries": -1},
        {"retry_delay_seconds": 0},
        {"ttl_seconds": 0},
        {"on_unknown": "perhaps"},
        {"retry_schedule_seconds": []},
        {"retry_schedule_seconds": [1.0, 0.0]},
        {"retry_schedule_seconds": [float("inf")]},
        {"retry_schedule_seconds": [[1.0, 2.0]]},
        {"retry_schedule_seconds": [0.01] * 101},
        {"retry_schedule_seconds": [1.0], "max_retries": 1},
        {"retry_schedule_seconds": [1.0], "retry_delay_seconds": 1},
    ],
)
def test_a_policy_out_of_range_is_refused(conn: Connection, policy: dict[str, Any]) -> None:
    """Numbers outside the documented range are told, not stored."""
    with pytest.raises(EndpointError):
        add(conn, changed(policy))


@pytest.mark.parametrize(
    "policy",
    [
        {"ttl_seconds": 193.0},
        {"max_retries": 20},
        {"retry_delay_seconds": 100, "max_retries": 6},
        {"retry_schedule_seconds": [1.0, 10.0, 1.0], "ttl_seconds": 14.9},
    ],
)
def test_retries_that_outlive_the_signal_are_refused(
    conn: Connection, policy: dict[str, Any]
) -> None:
    """A schedule whose longest possible sum exceeds a signal's life would silently be cut short."""
    with pytest.raises(EndpointError, match="longer than a signal's life"):
        add(conn, changed(policy))
    add(conn, replace(DESK, ttl_seconds=194.0))


def test_without_a_url_there_is_no_default_endpoint(conn: Connection) -> None:
    """OUTBOUND_SERVER_URL is what asks for the default endpoint."""
    assert ensure_default_endpoint(conn, Settings(database_url="postgresql://x"), BOX) is None
    assert list_endpoints(conn, removed=True) == []


def test_the_default_endpoint_follows_the_settings(conn: Connection) -> None:
    """It is made once, left alone while nothing changes, and changed with a trail."""
    made = ensure_default_endpoint(conn, SETTINGS, BOX)
    assert ensure_default_endpoint(conn, SETTINGS, BOX) == made
    moved = SETTINGS.model_copy(update={"outbound_server_url": "https://other.example/"})
    other = ensure_default_endpoint(conn, moved, BOX)
    assert other is not None
    assert (other.url, other.secret_version) == ("https://other.example/", 1)
    added, changed = trail(conn)
    assert (added.action, changed.action) == ("endpoint added", "endpoint changed")
    assert changed.before is not None
    assert changed.after is not None
    assert changed.before["url"] == SETTINGS.outbound_server_url
    assert changed.after["url"] == "https://other.example/"


def test_a_new_default_secret_is_a_new_version(conn: Connection) -> None:
    """A changed secret is stored, counted, and audited by its version alone."""
    ensure_default_endpoint(conn, SETTINGS, BOX)
    fresh = "an entirely different secret"
    changed = SETTINGS.model_copy(update={"hmac_producer_secret": fresh})
    view = ensure_default_endpoint(conn, changed, BOX)
    assert view is not None
    assert view.secret_version == 2
    assert reveal_secret(conn, "default", BOX) == fresh
    assert not [word for word in (fresh, BATTERY) if word in str([r.after for r in trail(conn)])]


def test_a_default_secret_that_nobody_can_read_is_replaced(conn: Connection) -> None:
    """The settings know the default endpoint's secret, so lost keys do not keep it unreadable."""
    ensure_default_endpoint(conn, SETTINGS, SecretBox([SecretBox.new_key()]))
    view = ensure_default_endpoint(conn, SETTINGS, BOX)
    assert view is not None
    assert view.secret_version == 2
    assert reveal_secret(conn, "default", BOX) == BATTERY


def test_the_default_endpoint_s_own_policy_stays(conn: Connection) -> None:
    """What an operator set on the default endpoint is not undone by the settings."""
    ensure_default_endpoint(conn, SETTINGS, BOX)
    conn.execute(text("UPDATE signalpost.endpoints SET max_retries = 1"))
    view = ensure_default_endpoint(conn, SETTINGS, BOX)
    assert view is not None
    assert view.max_retries == 1


def test_many_starting_processes_make_one_default_endpoint(engine: Engine) -> None:
    """Workers that start together end with one endpoint and one line of audit, none failing."""
    failures: list[BaseException] = []

    def start() -> None:
        try:
            with engine.begin() as connection:
                ensure_default_endpoint(connection, SETTINGS, BOX)
        except BaseException as error:  # noqa: BLE001 - to be told by the test
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with engine.connect() as connection:
        assert len(list_endpoints(connection)) == 1
        assert len(trail(connection)) == 1


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"hmac_producer_secret": None}, SettingError, "HMAC_PRODUCER_SECRET is not set"),
        ({"outbound_server_url": "http://h/"}, SettingError, "OUTBOUND_SERVER_URL: .* https"),
        ({"signal_ttl_seconds": 100}, EndpointError, "longer than a signal's life"),
    ],
)
def test_unusable_settings_make_no_default_endpoint(
    conn: Connection, change: dict[str, object], error: type[Exception], told: str
) -> None:
    """What cannot work is told at the start, by the name of the setting."""
    with pytest.raises(error, match=told):
        ensure_default_endpoint(conn, SETTINGS.model_copy(update=change), BOX)
    assert list_endpoints(conn) == []
