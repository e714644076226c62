from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, select, text

from signalpost.core.signing import Profile, verify
from signalpost.errors import EndpointError, SecretError, SignatureError
from signalpost.models import AuditRow
from signalpost.repository.default_endpoint import ensure_default_endpoint
from signalpost.repository.endpoints import (
    get_endpoint,
    list_endpoints,
    reveal_secret,
)
from signalpost.repository.reading import database_time
from signalpost.repository.rotation import finish_rotation, forget_previous_secrets, rotate_secret
from signalpost.secretbox import SecretBox
from signalpost.upkeep import prune
from tests import receivers, rows
from tests.engines import BOX, SEALED, SECRET, Rig, engine_rig
from tests.integration.test_endpoints import BATTERY, SETTINGS

NEW = "an entirely different secret"
BODY = b'{"instrument":"AAPL"}'
DAY = 86_400.0


@dataclass
class Desk:
    """An endpoint with its receiver, whose worker is running all the while."""

    engine: Engine
    rig: Rig
    receiver: receivers.Receiver

    async def deliver(self) -> receivers.Seen:
        """Deliver one more signal; the request as it arrived."""
        with self.engine.begin() as conn:
            view = get_endpoint(conn, "desk")
            signal_id = rows.add_signal(conn, body=BODY)
            delivery_id = rows.add_delivery(conn, endpoint_id=view.id, signal_id=signal_id)
        report = await self.rig.engine.deliver(delivery_id)
        assert report.outcome == "delivered"
        return self.receiver.seen[-1]

    def takes(self, seen: receivers.Seen, secret: str) -> set[Profile]:
        """The profiles in which a receiver that holds only this secret takes the request."""
        return {profile for profile in Profile if self._takes(seen, secret, profile)}

    def _takes(self, seen: receivers.Seen, secret: str, profile: Profile) -> bool:
        try:
            verify(
                method="POST",
                headers=seen.headers,
                body=seen.body,
                url=self.receiver.url,
                secrets=[secret],
                profile=profile,
                now=rows_now(self.engine),
            )
        except SignatureError:
            return False
        return True


def rows_now(engine: Engine) -> Any:
    with engine.connect() as conn:
        return database_time(conn)


def rotate(conn: Connection, secret: str = NEW, *, grace: float = DAY, name: str = "desk") -> None:
    rotate_secret(conn, name, secret, BOX, grace_seconds=grace, actor="alice")


def end_window(conn: Connection) -> None:
    """Let the grace window have ended by itself."""
    conn.execute(
        text(
            "UPDATE signalpost.endpoints SET previous_secret_until = clock_timestamp()"
            " WHERE previous_secret_until IS NOT NULL"
        )
    )


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    """A connection to an outbox with an endpoint named desk; its transaction is rolled back."""
    with engine.connect() as connection:
        rows.add_endpoint(connection, name="desk", secret_ciphertext=SEALED)
        yield connection


ALL = set(Profile)
BOTH_CARRY = {Profile.RFC9421, Profile.STANDARD}


@pytest.mark.parametrize("ending", ["by itself", "finish"])
async def test_both_secrets_sign_while_one_replaces_the_other(
    engine: Engine, database_url: str, ending: str
) -> None:
    """In the window a receiver with either secret accepts; after it only one with the new secret.

    The canonical signature has room for one: it keeps the old secret until the window's end. The
    worker runs on meanwhile, and each change counts from the very next claim.
    """
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        with engine.begin() as connection:
            rows.add_endpoint(connection, name="desk", url=receiver.url, secret_ciphertext=SEALED)
        desk = Desk(engine, rig, receiver)
        before = await desk.deliver()
        with engine.begin() as connection:
            rotate(connection)
        during = await desk.deliver()
        with engine.begin() as connection:
            if ending == "finish":
                finish_rotation(connection, "desk", actor="alice")
            else:
                end_window(connection)
        after = await desk.deliver()

    assert (desk.takes(before, SECRET), desk.takes(before, NEW)) == (ALL, set())
    assert (desk.takes(during, SECRET), desk.takes(during, NEW)) == (ALL, BOTH_CARRY)
    assert (desk.takes(after, SECRET), desk.takes(after, NEW)) == (set(), ALL)


async def test_each_signature_names_the_version_of_its_secret(
    engine: Engine, database_url: str
) -> None:
    """While a secret rotates, keyid tells the receiver which of its versions made which label."""
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        with engine.begin() as connection:
            rows.add_endpoint(connection, name="desk", url=receiver.url, secret_ciphertext=SEALED)
            rotate(connection)
        seen = await Desk(engine, rig, receiver).deliver()

    current, previous = seen.headers["Signature-Input"].split(", ")
    assert current.startswith("signalpost=")
    assert current.endswith('keyid="desk:2"')
    assert previous.startswith("signalpost-previous=")
    assert previous.endswith('keyid="desk:1"')


async def test_without_a_window_only_the_new_secret_signs(
    engine: Engine, database_url: str
) -> None:
    """A secret that has leaked is replaced at once by a grace of nothing."""
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        with engine.begin() as connection:
            rows.add_endpoint(connection, name="desk", url=receiver.url, secret_ciphertext=SEALED)
            rotate(connection, grace=0)
        desk = Desk(engine, rig, receiver)
        seen = await desk.deliver()

    assert (desk.takes(seen, SECRET), desk.takes(seen, NEW)) == (set(), ALL)


async def test_an_unreadable_previous_secret_sends_nothing(
    engine: Engine, database_url: str
) -> None:
    """Where the old secret cannot be decrypted nothing is signed by the new one alone."""
    async with receivers.receiver() as receiver, engine_rig(database_url) as rig:
        with engine.begin() as connection:
            endpoint_id = rows.add_endpoint(
                connection, name="desk", url=receiver.url, secret_ciphertext=SEALED
            )
            rotate(connection)
            connection.execute(
                text("UPDATE signalpost.endpoints SET previous_secret_ciphertext = 'lost'")
            )
            delivery_id: UUID = rows.add_delivery(connection, endpoint_id=endpoint_id)
        report = await rig.engine.deliver(delivery_id)

    assert (report.outcome, report.status) == ("released", "pending")
    assert receiver.seen == []


def test_a_rotation_is_stored_encrypted_and_audited_without_secrets(conn: Connection) -> None:
    """The trail tells who, why and the versions; both secrets are unreadable in the table."""
    rotate_secret(conn, "desk", NEW, BOX, grace_seconds=DAY, actor="alice", why="yearly")
    finish_rotation(conn, "desk", actor="bob")

    begun, finished = conn.execute(select(AuditRow.__table__).order_by(text("id"))).mappings()
    assert (begun["actor"], begun["action"], begun["why"]) == (
        "alice",
        "endpoint secret rotated",
        "yearly",
    )
    assert (begun["before"]["secret_version"], begun["after"]["secret_version"]) == (1, 2)
    assert begun["after"]["previous_secret_until"] is not None
    assert finished["action"] == "endpoint secret rotation finished"
    assert finished["after"]["previous_secret_until"] is None
    stored = str([dict(begun), dict(finished), list_endpoints(conn)])
    assert NEW not in stored
    assert SECRET not in stored
    assert reveal_secret(conn, "desk", BOX) == NEW


def test_only_one_rotation_at_a_time(conn: Connection) -> None:
    """A window that is open refuses another rotation; one that is over does not."""
    rotate(conn)
    with pytest.raises(EndpointError, match="is being replaced already"):
        rotate(conn, "yet another good secret")
    end_window(conn)
    rotate(conn, "yet another good secret")

    assert get_endpoint(conn, "desk").secret_version == 3


@pytest.mark.parametrize(
    ("secret", "grace", "told"),
    [
        (SECRET, DAY, "has that secret already"),
        ("short", DAY, "at least 16 bytes"),
        ("whsec_!", DAY, "base64"),
        (NEW, -1.0, "must be from 0 to 90 days"),
        (NEW, 91 * DAY, "must be from 0 to 90 days"),
        (NEW, float("nan"), "must be from 0 to 90 days"),
    ],
)
def test_a_bad_rotation_changes_nothing(
    conn: Connection, secret: str, grace: float, told: str
) -> None:
    """What cannot work is told, and the endpoint and its trail stay as they are."""
    before = get_endpoint(conn, "desk")
    with pytest.raises((EndpointError, SecretError), match=told):
        rotate(conn, secret, grace=grace)

    assert get_endpoint(conn, "desk") == before
    assert conn.scalars(select(AuditRow.id)).all() == []


def test_nothing_to_finish_is_told(conn: Connection) -> None:
    """Finishing what was never begun, or is over already, says so."""
    with pytest.raises(EndpointError, match="is not being replaced"):
        finish_rotation(conn, "desk", actor="alice")
    rotate(conn)
    end_window(conn)
    with pytest.raises(EndpointError, match="is not being replaced"):
        finish_rotation(conn, "desk", actor="alice")


def test_a_secret_that_nobody_can_read_is_replaced_at_once_only(conn: Connection) -> None:
    """With SECRET_KEYS lost there is no window, since the old secret cannot sign any more."""
    strange = SecretBox([SecretBox.new_key()])
    with pytest.raises(SecretError):
        rotate_secret(conn, "desk", NEW, strange, grace_seconds=DAY, actor="alice")
    rotate_secret(conn, "desk", NEW, strange, grace_seconds=0, actor="alice")

    assert reveal_secret(conn, "desk", strange) == NEW


def test_a_replaced_secret_is_forgotten_after_its_window(engine: Engine) -> None:
    """Upkeep deletes an old secret that signs no more, and no other."""
    with engine.begin() as connection:
        for name in ("over", "open"):
            rows.add_endpoint(connection, name=name, secret_ciphertext=SEALED)
            rotate(connection, name=name)
        connection.execute(
            text(
                "UPDATE signalpost.endpoints SET previous_secret_until = clock_timestamp()"
                " WHERE name = 'over'"
            )
        )
    prune(engine, retention_days=30)

    with engine.begin() as connection:
        assert get_endpoint(connection, "over").previous_secret_ciphertext is None
        assert get_endpoint(connection, "open").previous_secret_ciphertext is not None
        assert forget_previous_secrets(connection) == 0


def test_a_start_with_the_old_setting_does_not_undo_a_rotation(conn: Connection) -> None:
    """While the secret of `default` rotates, HMAC_PRODUCER_SECRET may be either; later the new."""
    ensure_default_endpoint(conn, SETTINGS, BOX)
    rotate(conn, name="default")
    rotated = get_endpoint(conn, "default")

    assert ensure_default_endpoint(conn, SETTINGS, BOX) == rotated
    followed = SETTINGS.model_copy(update={"hmac_producer_secret": NEW})
    assert ensure_default_endpoint(conn, followed, BOX) == rotated
    end_window(conn)
    undone = ensure_default_endpoint(conn, SETTINGS, BOX)
    assert undone is not None
    assert (undone.secret_version, undone.previous_secret_until) == (3, None)
    assert reveal_secret(conn, "default", BOX) == BATTERY
