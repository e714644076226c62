"""What is stored encrypted is encrypted anew by the first of SECRET_KEYS, so that old keys may go.

One endpoint a transaction: claims hold several of these rows at once, and no order of locks is
shared with them. Workers may run meanwhile; a secret is the same, and its version stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, text, update

from signalpost.errors import SecretError
from signalpost.models import EndpointRow
from signalpost.repository.endpoints import COLUMNS, EndpointView, audit
from signalpost.repository.reading import database_time
from signalpost.secretbox import SecretBox, unseal

__all__ = ["Reencrypted", "all_endpoint_ids", "reencrypt"]

_WAITS = text("""
SELECT EXISTS (SELECT FROM signalpost.deliveries WHERE endpoint_id = :id AND status = 'pending')
    OR EXISTS (SELECT FROM signalpost.deliveries WHERE endpoint_id = :id AND status = 'sending')
""")


@dataclass(frozen=True, slots=True)
class Reencrypted:
    """What was found of one endpoint; `readable` is False where no key fits and one is needed."""

    name: str
    changed: bool
    readable: bool


def all_endpoint_ids(conn: Connection) -> list[int]:
    """Every endpoint whose secret is stored, those that were removed as well."""
    return list(conn.scalars(select(EndpointRow.id).order_by(EndpointRow.id)))


def reencrypt(
    conn: Connection,
    endpoint_id: int,
    box: SecretBox,
    *,
    actor: str,
    why: str = "",
    dry_run: bool = False,
) -> Reencrypted | None:
    """Encrypt what is secret of one endpoint by the first key of `box`, audited; None: it is gone.

    A previous secret that signs no more is deleted instead.

    Args:
        conn: in a transaction that the caller commits, which does nothing else.
        endpoint_id: of the endpoint.
        box: reads with any of its keys.
        actor: who asks, for the audit trail.
        why: the person's reason, for the audit trail.
        dry_run: change nothing, only say what would happen.

    Raises SecretError where `box` has no key at all.
    """
    query = select(*COLUMNS).where(EndpointRow.id == endpoint_id)
    row = conn.execute(query if dry_run else query.with_for_update(key_share=True)).one_or_none()
    if row is None:
        return None
    view = EndpointView(*row)
    try:
        changes = _changes(conn, view, box)
    except SecretError:
        if not box.has_keys:
            raise
        return Reencrypted(view.name, changed=False, readable=not _needed(conn, view))
    if changes and not dry_run:
        conn.execute(update(EndpointRow).where(EndpointRow.id == view.id).values(changes))
        after = {"secret_version": view.secret_version}
        action = "endpoint secret reencrypted"
        audit(conn, actor, action, view.name, before=None, after=after, why=why)
    return Reencrypted(view.name, changed=bool(changes), readable=True)


def _changes(conn: Connection, view: EndpointView, box: SecretBox) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if (renewed := box.renewed(view.secret_ciphertext)) is not None:
        changes["secret_ciphertext"] = renewed
    unseal(view.headers, box)
    sealed = {name: box.renewed(value.encode()) for name, value in view.headers.items()}
    if any(renewed is not None for renewed in sealed.values()):
        changes["headers"] = {
            name: view.headers[name] if renewed is None else renewed.decode("ascii")
            for name, renewed in sealed.items()
        }
    previous = view.previous_secret_ciphertext
    if previous is None:
        return changes
    if not view.rotates(database_time(conn)):
        return {**changes, "previous_secret_ciphertext": None, "previous_secret_until": None}
    if (renewed := box.renewed(previous)) is not None:
        changes["previous_secret_ciphertext"] = renewed
    return changes


def _needed(conn: Connection, view: EndpointView) -> bool:
    # Nothing is ever signed again for one that was removed and has come to its end.
    return view.removed_at is None or bool(conn.scalar(_WAITS, {"id": view.id}))
