from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, text

from signalpost.errors import EndpointError
from signalpost.models import AuditRow
from signalpost.repository.endpoint_changes import Removal, change_endpoint, remove_endpoint
from signalpost.repository.endpoints import EndpointView, get_endpoint
from tests import receivers, rows
from tests.engines import LOOPBACK, SEALED, engine_rig
from tests.integration.test_endpoints import SETTINGS

PLAIN = SETTINGS.model_copy(update={"outbound_server_url": None})


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    """A connection to an outbox with an endpoint named desk; its transaction is rolled back."""
    with engine.connect() as connection:
        rows.add_endpoint(connection, name="desk", secret_ciphertext=SEALED)
        yield connection


def change(conn: Connection, **changes: Any) -> tuple[EndpointView, EndpointView]:
    return change_endpoint(conn, "desk", changes, PLAIN, actor="alice", why="tests")


def remove(conn: Connection, *, even_waiting: bool = False) -> Removal:
    return remove_endpoint(conn, "desk", PLAIN, even_waiting=even_waiting, actor="alice")


def trail(conn: Connection) -> list[dict[str, Any]]:
    found = conn.execute(select(AuditRow.__table__).order_by(text("id"))).mappings()
    return [dict(row) for row in found]


def test_a_change_is_stored_with_its_trail(conn: Connection) -> None:
    """What is named changes, the rest stays, and the trail tells who, why, before and after."""
    before, after = change(conn, timeout_seconds=7.5, ttl_seconds=900.0, on_unknown="stop")

    assert get_endpoint(conn, "desk") == after
    assert (after.timeout_seconds, after.ttl_seconds, after.on_unknown) == (7.5, 900.0, "stop")
    assert (after.url, after.secret_version) == (before.url, before.secret_version)
    [row] = trail(conn)
    assert (row["actor"], row["action"], row["why"]) == ("alice", "endpoint changed", "tests")
    assert (row["before"]["timeout_seconds"], row["after"]["timeout_seconds"]) == (None, 7.5)


def test_a_value_goes_back_to_the_settings(conn: Connection) -> None:
    """None makes the endpoint follow the setting again."""
    change(conn, max_retries=2)
    _, after = change(conn, max_retries=None)

    assert after.max_retries is None


def test_what_is_so_already_leaves_no_trail(conn: Connection) -> None:
    """A change to the same values is none."""
    before, after = change(conn, max_retries=None, on_unknown="retry")

    assert before == after
    assert trail(conn) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"timeout_seconds": 4.0}, "timeout must be from 5"),
        ({"max_retries": 20}, "longer than a signal's life"),
        ({"ttl_seconds": 100.0}, "longer than a signal's life"),
        ({"url": "http://desk.example/"}, "must be https"),
        ({"url": "https://10.0.0.1/"}, "OUTBOUND_ALLOW_NETWORKS must hold it"),
        ({"on_unknown": "perhaps"}, "retry or stop"),
    ],
)
def test_a_bad_change_changes_nothing(conn: Connection, changes: dict[str, Any], told: str) -> None:
    """The rules are those of adding, over old and new values together."""
    before = get_endpoint(conn, "desk")
    with pytest.raises(EndpointError, match=told):
        change(conn, **changes)

    assert get_endpoint(conn, "desk") == before
    assert trail(conn) == []


def test_an_endpoint_whose_url_is_allowed_no_more_can_still_be_changed(conn: Connection) -> None:
    """Only a URL that changes is judged: the policy of an old one can be set all the same."""
    _, after = change(conn, max_retries=1)

    assert after.url.startswith("http://127.0.0.1")
    assert after.max_retries == 1


async def test_a_change_counts_from_the_next_claim(engine: Engine, database_url: str) -> None:
    """A running worker sends what waits already to the new URL."""
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        with engine.begin() as connection:
            endpoint_id = rows.add_endpoint(connection, name="desk", secret_ciphertext=SEALED)
            delivery_id = rows.add_delivery(connection, endpoint_id=endpoint_id)
            allowing = PLAIN.model_copy(update={"outbound_allow_networks": (LOOPBACK,)})
            change_endpoint(connection, "desk", {"url": receiver.url}, allowing, actor="alice")
        report = await rig.engine.deliver(delivery_id)

    assert report.outcome == "delivered"
    assert len(receiver.seen) == 1


def test_a_removed_endpoint_gets_nothing_new(conn: Connection) -> None:
    """It is gone from the living ones, its name is free, and the trail tells of it."""
    removal = remove(conn)

    assert removal.removed
    with pytest.raises(EndpointError, match="no endpoint named"):
        get_endpoint(conn, "desk")
    [row] = trail(conn)
    assert (row["action"], row["after"]) == ("endpoint removed", None)
    rows.add_endpoint(conn, name="desk", secret_ciphertext=SEALED)


def test_an_endpoint_with_deliveries_under_way_is_removed_on_request_only(
    conn: Connection,
) -> None:
    """What waits is counted and holds the removal up, unless the person says so."""
    endpoint_id = get_endpoint(conn, "desk").id
    rows.add_delivery(conn, endpoint_id=endpoint_id)
    dead = {"status": "dead", "finished_at": rows.database_now(conn), "next_attempt_at": None}
    rows.add_delivery(conn, endpoint_id=endpoint_id, **dead)
    held = remove(conn)

    assert (held.pending, held.sending, held.dead_letters, held.removed) == (1, 0, 1, False)
    assert get_endpoint(conn, "desk").removed_at is None
    assert trail(conn) == []
    assert remove(conn, even_waiting=True).removed


async def test_what_waits_for_a_removed_endpoint_is_still_delivered(
    engine: Engine, database_url: str
) -> None:
    """A signal whose enqueue has returned reaches its end, whatever became of the endpoint."""
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        with engine.begin() as connection:
            endpoint_id = rows.add_endpoint(
                connection, name="desk", url=receiver.url, secret_ciphertext=SEALED
            )
            delivery_id = rows.add_delivery(connection, endpoint_id=endpoint_id)
            remove(connection, even_waiting=True)
        report = await rig.engine.deliver(delivery_id)

    assert report.outcome == "delivered"


def test_what_the_settings_define_is_changed_there(conn: Connection) -> None:
    """URL and existence of the endpoint `default` are the settings' while they name one."""
    rows.add_endpoint(conn, name="default", secret_ciphertext=SEALED)
    with pytest.raises(EndpointError, match="is OUTBOUND_SERVER_URL; change it there"):
        change_endpoint(conn, "default", {"url": "https://x.example/"}, SETTINGS, actor="alice")
    with pytest.raises(EndpointError, match="is defined by OUTBOUND_SERVER_URL"):
        remove_endpoint(conn, "default", SETTINGS, even_waiting=True, actor="alice")

    change_endpoint(conn, "default", {"max_retries": 1}, SETTINGS, actor="alice")
    assert remove_endpoint(conn, "default", PLAIN, even_waiting=False, actor="alice").removed
