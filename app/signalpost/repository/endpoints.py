"""Endpoints: added, read, and the one named `default` kept as the settings describe it."""

from __future__ import annotations

import base64
import secrets
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from signalpost.core.signing import secret_bytes
from signalpost.errors import EndpointError, SecretError, SettingError
from signalpost.models import AuditRow, EndpointRow
from signalpost.repository.endpoint_rules import (
    NewEndpoint,
    check_endpoint,
    check_policy,
    check_url,
)
from signalpost.secretbox import SecretBox
from signalpost.settings import Settings

__all__ = [
    "DEFAULT_NAME",
    "EndpointView",
    "NewEndpoint",
    "add_endpoint",
    "ensure_default_endpoint",
    "get_endpoint",
    "list_endpoints",
    "new_secret",
    "reveal_secret",
]

DEFAULT_NAME = "default"


@dataclass(frozen=True, slots=True)
class EndpointView:
    """A stored endpoint; None: the setting's value. Times are in seconds, the secret encrypted."""

    id: int
    name: str
    url: str
    secret_version: int
    timeout_seconds: float | None
    max_retries: int | None
    retry_delay_seconds: float | None
    ttl_seconds: float | None
    on_unknown: str
    created_at: datetime
    removed_at: datetime | None
    secret_ciphertext: bytes = field(repr=False)


_COLUMNS = [getattr(EndpointRow, column.name) for column in fields(EndpointView)]


def new_secret() -> str:
    """A random secret of 32 bytes in the `whsec_` form that Standard Webhooks libraries take."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def add_endpoint(
    conn: Connection, new: NewEndpoint, settings: Settings, box: SecretBox, *, actor: str
) -> EndpointView:
    """Store a receiver, its secret encrypted, and the trail of who added it.

    Raises EndpointError for a bad name, URL or policy, and for a name that is taken; SecretError
    for a bad secret.
    """
    check_endpoint(new, settings)
    secret_bytes(new.secret)
    values = {**asdict(new), "secret_ciphertext": box.encrypt(new.secret.encode())}
    del values["secret"]
    row = conn.execute(_insert(values)).one_or_none()
    if row is None:
        raise EndpointError(
            f"there is an endpoint named {new.name} already; choose another name, "
            "or remove that one first"
        )
    view = EndpointView(*row)
    _audit(conn, actor, "endpoint added", view.name, before=None, after=_facts(view))
    return view


def get_endpoint(conn: Connection, name: str) -> EndpointView:
    """The live endpoint of that name. Raises EndpointError where there is none."""
    query = select(*_COLUMNS).where(EndpointRow.name == name, EndpointRow.removed_at.is_(None))
    row = conn.execute(query).one_or_none()
    if row is None:
        raise EndpointError(
            f"there is no endpoint named {name!r}; `signalpost endpoint list` shows those there are"
        )
    return EndpointView(*row)


def list_endpoints(conn: Connection, *, removed: bool = False) -> list[EndpointView]:
    """All live endpoints by name; with `removed`, those that were removed as well."""
    query = select(*_COLUMNS).order_by(EndpointRow.name, EndpointRow.id)
    if not removed:
        query = query.where(EndpointRow.removed_at.is_(None))
    return [EndpointView(*row) for row in conn.execute(query)]


def reveal_secret(conn: Connection, name: str, box: SecretBox) -> str:
    """The secret of the live endpoint of that name, as it was given.

    Raises EndpointError where there is none, SecretError where no key of `box` fits.
    """
    return box.decrypt(get_endpoint(conn, name).secret_ciphertext).decode()


def ensure_default_endpoint(
    conn: Connection, settings: Settings, box: SecretBox
) -> EndpointView | None:
    """Make the endpoint named `default` what OUTBOUND_SERVER_URL and HMAC_PRODUCER_SECRET say.

    Without OUTBOUND_SERVER_URL nothing is touched and None returned. Any number of processes may
    call this at once. A change is audited; the secret shows there as a version only.

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
    ciphertext = box.encrypt(secret.encode())
    values = {"name": DEFAULT_NAME, "url": url, "secret_ciphertext": ciphertext}
    if row := conn.execute(_insert(values)).one_or_none():
        view = EndpointView(*row)
        _audit(conn, "settings", "endpoint added", DEFAULT_NAME, before=None, after=_facts(view))
        return view
    return _bring_up_to_date(conn, new, ciphertext, box)


def _bring_up_to_date(
    conn: Connection, new: NewEndpoint, ciphertext: bytes, box: SecretBox
) -> EndpointView:
    # NO KEY: enqueueing refers to endpoints and must not wait for this.
    query = (
        select(*_COLUMNS)
        .where(EndpointRow.name == new.name, EndpointRow.removed_at.is_(None))
        .with_for_update(key_share=True)
    )
    view = EndpointView(*conn.execute(query).one())
    changes: dict[str, Any] = {}
    if view.url != new.url:
        changes["url"] = new.url
    if not _same_secret(view.secret_ciphertext, new.secret, box):
        changes |= {"secret_ciphertext": ciphertext, "secret_version": view.secret_version + 1}
    if not changes:
        return view
    statement = (
        update(EndpointRow).where(EndpointRow.id == view.id).values(changes).returning(*_COLUMNS)
    )
    changed = EndpointView(*conn.execute(statement).one())
    _audit(
        conn,
        "settings",
        "endpoint changed",
        new.name,
        before=_facts(view),
        after=_facts(changed),
    )
    return changed


def _same_secret(ciphertext: bytes, secret: str, box: SecretBox) -> bool:
    try:
        return secrets.compare_digest(box.decrypt(ciphertext), secret.encode())
    except SecretError:
        # The settings know the secret, so one that nobody can read any more is simply replaced.
        return False


def _insert(values: dict[str, Any]) -> Any:
    return (
        upsert(EndpointRow)
        .values(values)
        .on_conflict_do_nothing(
            index_elements=[EndpointRow.name], index_where=text("removed_at IS NULL")
        )
        .returning(*_COLUMNS)
    )


def _audit(
    conn: Connection,
    actor: str,
    action: str,
    name: str,
    *,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    row = {"actor": actor, "action": action, "subject": f"endpoint {name}"}
    conn.execute(insert(AuditRow).values(**row, before=before, after=after))


def _facts(view: EndpointView) -> dict[str, Any]:
    told = ("url", "secret_version", "timeout_seconds", "max_retries", "retry_delay_seconds")
    return {name: getattr(view, name) for name in (*told, "ttl_seconds", "on_unknown")}
