"""The secret of an endpoint is replaced: both versions sign for a while, then the new one alone.

docs/signing.md says which signature carries which version meanwhile.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select, update

from signalpost.core.signing import secret_bytes
from signalpost.errors import EndpointError
from signalpost.models import EndpointRow
from signalpost.repository.endpoint_changes import write_change
from signalpost.repository.endpoints import (
    EndpointView,
    get_endpoint,
    hold_endpoint,
    same_secret,
)
from signalpost.repository.reading import database_time
from signalpost.secretbox import SecretBox

__all__ = [
    "MOST_GRACE_SECONDS",
    "finish_rotation",
    "forget_previous_secrets",
    "rotate_secret",
    "valid_secrets",
]

MOST_GRACE_SECONDS = 90 * 86_400.0

_NONE_BEFORE: dict[str, Any] = {"previous_secret_ciphertext": None, "previous_secret_until": None}


def valid_secrets(conn: Connection, name: str, box: SecretBox) -> tuple[str, ...]:
    """What requests to the endpoint are signed with now, the current secret first.

    Raises EndpointError where there is none of that name, SecretError where no key of `box` fits.
    """
    view = get_endpoint(conn, name)
    sealed = [view.secret_ciphertext]
    if view.rotates(database_time(conn)) and view.previous_secret_ciphertext is not None:
        sealed.append(view.previous_secret_ciphertext)
    return tuple(box.decrypt(one).decode() for one in sealed)


def rotate_secret(
    conn: Connection,
    name: str,
    secret: str,
    box: SecretBox,
    *,
    grace_seconds: float,
    actor: str,
    why: str = "",
) -> EndpointView:
    """Make `secret` the endpoint's; the one before signs as well for `grace_seconds`.

    With 0 it ceases at once. Raises EndpointError: no such endpoint, a window out of bounds, a
    rotation that is not over, a secret that it has already; SecretError for a bad secret.
    """
    secret_bytes(secret)
    if not 0 <= grace_seconds <= MOST_GRACE_SECONDS:
        raise EndpointError(
            f"the grace window must be from 0 to {MOST_GRACE_SECONDS / 86_400:g} days"
        )
    before = hold_endpoint(conn, name)
    if before.rotates(database_time(conn)):
        raise EndpointError(
            f"the secret of {name} is being replaced already; once the receiver has the new one, "
            f"end that by `signalpost endpoint rotate-secret {name} --finish`, then begin anew"
        )
    if same_secret(before.secret_ciphertext, secret, box):
        raise EndpointError(f"{name} has that secret already; rotate to another one")
    previous: dict[str, Any] = _NONE_BEFORE
    if grace_seconds:
        until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, grace_seconds)
        previous = {
            # Read once more, so that nobody rotates away from a secret that cannot sign.
            "previous_secret_ciphertext": box.encrypt(box.decrypt(before.secret_ciphertext)),
            "previous_secret_until": until,
        }
    changes = {
        "secret_ciphertext": box.encrypt(secret.encode()),
        "secret_version": before.secret_version + 1,
        **previous,
    }
    return write_change(conn, before, changes, "endpoint secret rotated", actor=actor, why=why)


def finish_rotation(conn: Connection, name: str, *, actor: str, why: str = "") -> EndpointView:
    """End the window now: only the current secret signs. EndpointError where none is open."""
    before = hold_endpoint(conn, name)
    if not before.rotates(database_time(conn)):
        raise EndpointError(
            f"the secret of {name} is not being replaced; "
            f"`signalpost endpoint rotate-secret {name}` begins it"
        )
    action = "endpoint secret rotation finished"
    return write_change(conn, before, _NONE_BEFORE, action, actor=actor, why=why)


def forget_previous_secrets(conn: Connection) -> int:
    """Delete previous secrets whose window is over; how many they were."""
    over = EndpointRow.previous_secret_until <= func.clock_timestamp()
    # In the order in which all lock endpoints of which they need several.
    found = select(EndpointRow.id).where(over).order_by(EndpointRow.id)
    ids = conn.scalars(found.with_for_update(key_share=True)).all()
    mine = EndpointRow.id.in_(ids)
    return conn.execute(update(EndpointRow).where(mine).values(_NONE_BEFORE)).rowcount
