"""The endpoint named `default`, kept as the settings describe it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, update

from signalpost.errors import EndpointError, SettingError
from signalpost.models import EndpointRow
from signalpost.repository.endpoint_rules import NewEndpoint, check_policy, check_url
from signalpost.repository.endpoints import (
    COLUMNS,
    DEFAULT_NAME,
    EndpointView,
    audit,
    facts_of,
    hold_endpoint,
    insert_endpoint,
    same_secret,
)
from signalpost.repository.reading import database_time
from signalpost.secretbox import SecretBox
from signalpost.settings import Settings

__all__ = ["described_default", "ensure_default_endpoint"]


def described_default(settings: Settings) -> NewEndpoint | None:
    """The endpoint named `default` as the settings describe it; None without OUTBOUND_SERVER_URL.

    Raises SettingError for a URL that cannot be used and a secret that is not set, EndpointError
    for a retry schedule longer than a signal's life.
    """
    url, secret = settings.outbound_server_url, settings.hmac_producer_secret
    if url is None:
        return None
    if secret is None:
        raise SettingError(
            "HMAC_PRODUCER_SECRET is not set, and deliveries to OUTBOUND_SERVER_URL are signed "
            "with it"
        )
    new = NewEndpoint(name=DEFAULT_NAME, url=url, secret=secret)
    try:
        check_url(url, settings.outbound_allow_networks)
    except EndpointError as error:
        raise SettingError(f"OUTBOUND_SERVER_URL: {error}") from None
    check_policy(new, settings)
    return new


def ensure_default_endpoint(
    conn: Connection, settings: Settings, box: SecretBox
) -> EndpointView | None:
    """Make the endpoint named `default` what OUTBOUND_SERVER_URL and HMAC_PRODUCER_SECRET say.

    Without OUTBOUND_SERVER_URL nothing is touched and None returned. Any number of processes may
    call this at once. A change is audited; the secret shows there as a version only.

    Raises what `described_default` raises.
    """
    new = described_default(settings)
    if new is None:
        return None
    ciphertext = box.encrypt(new.secret.encode())
    values = {"name": DEFAULT_NAME, "url": new.url, "secret_ciphertext": ciphertext}
    if row := conn.execute(insert_endpoint(values)).one_or_none():
        view = EndpointView(*row)
        audit(conn, "settings", "endpoint added", DEFAULT_NAME, before=None, after=facts_of(view))
        return view
    return _bring_up_to_date(conn, new, ciphertext, box)


def _bring_up_to_date(
    conn: Connection, new: NewEndpoint, ciphertext: bytes, box: SecretBox
) -> EndpointView:
    view = hold_endpoint(conn, new.name)
    changes: dict[str, Any] = {}
    if view.url != new.url:
        changes["url"] = new.url
    known = [view.secret_ciphertext]
    if view.rotates(database_time(conn)) and view.previous_secret_ciphertext is not None:
        # A person has begun to replace the secret, and the settings have until its end to follow.
        known.append(view.previous_secret_ciphertext)
    if not any(same_secret(secret, new.secret, box) for secret in known):
        changes |= {
            "secret_ciphertext": ciphertext,
            "secret_version": view.secret_version + 1,
            "previous_secret_ciphertext": None,
            "previous_secret_until": None,
        }
    if not changes:
        return view
    statement = (
        update(EndpointRow).where(EndpointRow.id == view.id).values(changes).returning(*COLUMNS)
    )
    changed = EndpointView(*conn.execute(statement).one())
    audit(
        conn,
        "settings",
        "endpoint changed",
        new.name,
        before=facts_of(view),
        after=facts_of(changed),
    )
    return changed
