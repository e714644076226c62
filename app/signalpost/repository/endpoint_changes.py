"""Endpoints: changed and removed, each act with its trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, text, update

from signalpost.errors import EndpointError
from signalpost.models import EndpointRow
from signalpost.repository.endpoint_rules import NewEndpoint, check_policy, check_url
from signalpost.repository.endpoints import (
    COLUMNS,
    DEFAULT_NAME,
    EndpointView,
    audit,
    facts_of,
    hold_endpoint,
)
from signalpost.secretbox import SecretBox, seal, unseal
from signalpost.settings import Settings

__all__ = ["CHANGEABLE", "Removal", "change_endpoint", "remove_endpoint", "write_change"]

CHANGEABLE = (
    "url",
    "timeout_seconds",
    "max_retries",
    "retry_delay_seconds",
    "retry_schedule_seconds",
    "ttl_seconds",
    "on_unknown",
    "instruments",
    "sides",
    "actions",
    "producers",
    "min_confidence",
    "ordered",
    "on_dead",
    "max_in_flight",
    "rate_per_second",
)
"""What `endpoint set` changes as it is given; `--json` shows all of it, so nothing secret."""

# By the literals of the partial indexes, so that no delivered row is read.
_WAITING = text("""
SELECT (SELECT count(*) FROM signalpost.deliveries
        WHERE endpoint_id = :id AND status = 'pending') AS pending,
       (SELECT count(*) FROM signalpost.deliveries
        WHERE endpoint_id = :id AND status = 'sending') AS sending,
       (SELECT count(*) FROM signalpost.deliveries
        WHERE endpoint_id = :id AND status IN ('dead', 'expired')) AS dead_letters
""")


@dataclass(frozen=True, slots=True)
class Removal:
    """An endpoint that is removed, or would be, and what was on its way to it."""

    view: EndpointView
    pending: int
    sending: int
    dead_letters: int
    removed: bool

    @property
    def waiting(self) -> int:
        """Deliveries that have not come to their end."""
        return self.pending + self.sending


def change_endpoint(
    conn: Connection,
    name: str,
    changes: Mapping[str, Any],
    settings: Settings,
    *,
    box: SecretBox | None = None,
    headers: Mapping[str, str | None] | None = None,
    actor: str,
    why: str = "",
) -> tuple[EndpointView, EndpointView]:
    """Change the URL or the policy of a live endpoint; returns it before and after.

    The next claim uses what is new, also for deliveries that wait already.

    Args:
        conn: in a transaction of the caller's.
        name: of the endpoint.
        changes: values by their names in CHANGEABLE; None takes the setting's value from now on.
        settings: what holds where the endpoint says nothing.
        box: encrypts the values of extra headers; needed where `headers` are given.
        headers: extra headers by their names, in whatever case; None takes one away.
        actor: who does it.
        why: for the audit trail.

    Raises EndpointError, with nothing changed: no such endpoint, a value that cannot be used, a
    retry schedule that outlives a signal.
    """
    before = hold_endpoint(conn, name)
    kept = {field: getattr(before, field) for field in CHANGEABLE}
    stored, plain = _with_headers(before.headers, headers or {}, box)
    new = NewEndpoint(name=name, secret="", headers=plain, **{**kept, **changes})
    if "url" in changes:
        if name == DEFAULT_NAME and settings.outbound_server_url is not None:
            raise EndpointError(
                f"the URL of {name} is OUTBOUND_SERVER_URL; change it there and start the "
                "workers again"
            )
        check_url(new.url, settings.outbound_allow_networks)
    check_policy(new, settings)
    different = {field: value for field, value in changes.items() if value != kept[field]}
    if stored != before.headers:
        different["headers"] = stored
    if not different:
        return before, before
    return before, write_change(conn, before, different, "endpoint changed", actor=actor, why=why)


def _with_headers(
    sealed: Mapping[str, str], changes: Mapping[str, str | None], box: SecretBox | None
) -> tuple[dict[str, str], dict[str, str]]:
    """The extra headers afterwards, as they are stored and as they are sent."""
    if not changes or box is None:
        # Their values were judged when they were set; their names still matter to a new URL.
        return dict(sealed), dict.fromkeys(sealed, "-")
    plain, stored = unseal(sealed, box), dict(sealed)
    for name, value in changes.items():
        former = next((known for known in plain if known.lower() == name.lower()), None)
        if value is None and former is None:
            raise EndpointError(f"there is no extra header {name} to take away")
        if value is not None and former == name and plain[name] == value:
            continue
        if former is not None:
            del plain[former], stored[former]
        if value is not None:
            plain[name], stored[name] = value, seal({name: value}, box)[name]
    return stored, plain


def remove_endpoint(
    conn: Connection,
    name: str,
    settings: Settings,
    *,
    even_waiting: bool,
    actor: str,
    why: str = "",
) -> Removal:
    """Remove a live endpoint: no signal enqueued from now on goes to it.

    What waits already keeps being delivered by the endpoint's policy until it has come to its end;
    so unless `even_waiting`, an endpoint with such deliveries stays as it is (`removed` False).

    Raises EndpointError where there is none, or where the settings would add it again.
    """
    if name == DEFAULT_NAME and settings.outbound_server_url is not None:
        raise EndpointError(
            f"{name} is defined by OUTBOUND_SERVER_URL, and each worker's start would add it "
            "again; unset that first"
        )
    before = hold_endpoint(conn, name)
    waiting = conn.execute(_WAITING, {"id": before.id}).one()
    counts = waiting._asdict()
    if waiting.pending + waiting.sending and not even_waiting:
        return Removal(before, **counts, removed=False)
    gone = {"removed_at": func.clock_timestamp()}
    after = write_change(conn, before, gone, "endpoint removed", actor=actor, why=why)
    return Removal(after, **counts, removed=True)


def write_change(
    conn: Connection,
    before: EndpointView,
    changes: Mapping[str, Any],
    action: str,
    *,
    actor: str,
    why: str,
) -> EndpointView:
    """Store changes to an endpoint that the transaction holds, and their trail."""
    statement = (
        update(EndpointRow).where(EndpointRow.id == before.id).values(changes).returning(*COLUMNS)
    )
    after = EndpointView(*conn.execute(statement).one())
    told = None if after.removed_at is not None else facts_of(after)
    audit(conn, actor, action, before.name, before=facts_of(before), after=told, why=why)
    return after
