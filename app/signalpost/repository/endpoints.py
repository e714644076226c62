"""Endpoints: added and read, and the trail of what is done to them."""

from __future__ import annotations

import base64
import secrets
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Select, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from signalpost.core.signing import secret_bytes
from signalpost.errors import EndpointError, SecretError
from signalpost.models import EndpointRow
from signalpost.repository.auditing import Act, leave_trail
from signalpost.repository.endpoint_rules import (
    NewEndpoint,
    check_endpoint,
)
from signalpost.secretbox import SecretBox, seal
from signalpost.settings import Settings

__all__ = [
    "COLUMNS",
    "DEFAULT_NAME",
    "EndpointView",
    "NewEndpoint",
    "add_endpoint",
    "audit",
    "facts_of",
    "get_endpoint",
    "hold_endpoint",
    "insert_endpoint",
    "list_endpoints",
    "new_secret",
    "reveal_secret",
    "same_secret",
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
    retry_schedule_seconds: list[float] | None
    ttl_seconds: float | None
    on_unknown: str
    created_at: datetime
    removed_at: datetime | None
    secret_ciphertext: bytes = field(repr=False)
    previous_secret_until: datetime | None
    """While the secret is being replaced: how long its previous version signs as well."""
    previous_secret_ciphertext: bytes | None = field(repr=False)
    instruments: list[str] | None
    sides: list[str] | None
    actions: list[str] | None
    producers: list[str] | None
    min_confidence: Decimal | None
    ordered: bool
    on_dead: str
    max_in_flight: int | None
    rate_per_second: float | None
    headers: dict[str, str] = field(repr=False)
    """The extra ones, their values encrypted."""

    def rotates(self, now: datetime) -> bool:
        """Whether requests are signed with the previous secret as well; `now`: database time."""
        return self.previous_secret_until is not None and self.previous_secret_until > now


COLUMNS = [getattr(EndpointRow, column.name) for column in fields(EndpointView)]


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
    values = {
        **asdict(new),
        "secret_ciphertext": box.encrypt(new.secret.encode()),
        "headers": seal(new.headers, box),
    }
    del values["secret"]
    row = conn.execute(insert_endpoint(values)).one_or_none()
    if row is None:
        raise EndpointError(
            f"there is an endpoint named {new.name} already; choose another name, "
            "or remove that one first"
        )
    view = EndpointView(*row)
    audit(conn, actor, "endpoint added", view.name, before=None, after=facts_of(view))
    return view


def get_endpoint(conn: Connection, name: str) -> EndpointView:
    """The live endpoint of that name. Raises EndpointError where there is none."""
    return _the_live_one(conn, name, _live(name))


def hold_endpoint(conn: Connection, name: str) -> EndpointView:
    """The same, locked against other changes until the transaction ends."""
    # NO KEY: enqueueing refers to endpoints and must not wait for this.
    return _the_live_one(conn, name, _live(name).with_for_update(key_share=True))


def _live(name: str) -> Select[Any]:
    return select(*COLUMNS).where(EndpointRow.name == name, EndpointRow.removed_at.is_(None))


def _the_live_one(conn: Connection, name: str, query: Select[Any]) -> EndpointView:
    row = conn.execute(query).one_or_none()
    if row is None:
        raise EndpointError(
            f"there is no endpoint named {name!r}; `signalpost endpoint list` shows those there are"
        )
    return EndpointView(*row)


def list_endpoints(conn: Connection, *, removed: bool = False) -> list[EndpointView]:
    """All live endpoints by name; with `removed`, those that were removed as well."""
    query = select(*COLUMNS).order_by(EndpointRow.name, EndpointRow.id)
    if not removed:
        query = query.where(EndpointRow.removed_at.is_(None))
    return [EndpointView(*row) for row in conn.execute(query)]


def reveal_secret(conn: Connection, name: str, box: SecretBox) -> str:
    """The secret of the live endpoint of that name, as it was given.

    Raises EndpointError where there is none, SecretError where no key of `box` fits.
    """
    return box.decrypt(get_endpoint(conn, name).secret_ciphertext).decode()


def same_secret(ciphertext: bytes, secret: str, box: SecretBox) -> bool:
    """Whether that is what was encrypted; False also for what nobody can read any more."""
    try:
        return secrets.compare_digest(box.decrypt(ciphertext), secret.encode())
    except SecretError:
        # The settings know the secret, so one that nobody can read any more is simply replaced.
        return False


def insert_endpoint(values: dict[str, Any]) -> Any:
    """The statement that stores one, unless its name is taken; returns its row."""
    return (
        upsert(EndpointRow)
        .values(values)
        .on_conflict_do_nothing(
            index_elements=[EndpointRow.name], index_where=text("removed_at IS NULL")
        )
        .returning(*COLUMNS)
    )


def audit(
    conn: Connection,
    actor: str,
    action: str,
    name: str,
    *,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    why: str = "",
) -> None:
    """Leave the trail of a change to the endpoint of that name."""
    leave_trail(conn, [Act(f"endpoint {name}", before, after)], action, actor=actor, why=why)


_TOLD = (
    *("url", "secret_version", "timeout_seconds", "max_retries", "retry_delay_seconds"),
    *("ttl_seconds", "on_unknown", "instruments", "sides", "actions", "producers", "ordered"),
    *("on_dead", "max_in_flight", "rate_per_second", "retry_schedule_seconds"),
)


def facts_of(view: EndpointView) -> dict[str, Any]:
    """What the audit trail keeps of an endpoint: nothing of a secret but its version.

    Of an extra header's value it keeps a print of its ciphertext, which tells a change and no more.
    """
    until, least = view.previous_secret_until, view.min_confidence
    return {
        **{name: getattr(view, name) for name in _TOLD},
        "min_confidence": None if least is None else str(least),
        "previous_secret_until": None if until is None else until.isoformat(),
        "headers": {
            name: sha256(sealed.encode()).hexdigest()[:8] for name, sealed in view.headers.items()
        },
    }
