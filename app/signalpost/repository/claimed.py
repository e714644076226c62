"""What a claim brings: claims, what it found expired, and how the others stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from signalpost.core.shares import Kept
from signalpost.repository.keys import Key


@dataclass(frozen=True, slots=True)
class Claim:
    """All that one attempt needs, so that nothing is read between the claim and the request."""

    delivery_id: UUID
    claim_id: UUID
    worker_id: UUID
    enqueued_at: datetime
    claimed_at: datetime
    attempt: int
    spent: int
    maybe_received: bool
    replays: int
    expires_at: datetime | None
    signal_id: UUID
    producer_id: str
    instrument: str
    body: bytes
    endpoint_id: int
    endpoint: str
    url: str
    secret_ciphertext: bytes
    secret_version: int
    previous_secret_ciphertext: bytes | None
    """The version before, while the secret is being replaced."""
    timeout_seconds: float | None
    max_retries: int | None
    retry_delay_seconds: float | None
    on_unknown: str
    priority: int = 0
    ordered: bool = False
    ordering_key: str = ""
    sequence: int | None = None
    on_dead: str = "skip"
    headers: Mapping[str, str] | None = None
    troubled: bool = False
    """Its endpoint has failed lately, so that a success is news to its breaker."""
    governed: bool = False
    """Its end makes room for another one."""
    retry_schedule_seconds: Sequence[object] | None = None
    """As stored; see :func:`signalpost.core.backoff.usable_waits`."""

    @property
    def key(self) -> Key | None:
        """The ordering key that it goes before others of; None where order does not matter."""
        return (self.endpoint_id, self.ordering_key) if self.ordered else None


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A delivery that was asked for and not claimed, and how it stood."""

    delivery_id: UUID
    status: str | None
    """None: there is no such delivery."""
    due_in_seconds: float | None
    """For a pending one: until it is due; 0 or less means that somebody else is at it, or that
    something holds it."""
    held: str | None = None
    """What holds it: `order`, `pause`, `breaker`, `limit` or `share` (of this process)."""


@dataclass(frozen=True, slots=True)
class Expired:
    """A delivery that the claim found past its expiry and ended."""

    delivery_id: UUID
    alert_id: int


@dataclass(slots=True)
class Claimed:
    """What a claim statement brought."""

    claims: list[Claim] = field(default_factory=list)
    expired: list[Expired] = field(default_factory=list)
    unclaimed: list[Unclaimed] = field(default_factory=list)
    unplaced: bool = False
    """There are ordered deliveries without a place: place them, then claim again."""
    parked: int = 0
    """So many were put aside because their producer or instrument is paused."""
    more: bool = False
    """There may be more that is due, but for a quota or a limit: look again when one ends."""
    kept: Kept = field(default_factory=Kept)
    """Whose it is, where it was a quota: look again once one of them has room."""
    seen_all: bool = False
    """Beyond `kept`, nothing was left of what was due when it looked; somebody calls for the rest:
    for new ones a ring, for retries a timer, for what is held whoever holds it."""
    again_seconds: float | None = None
    """There may be more that this moment's limit or another claim kept back: look again after so
    long."""
    key_held: bool = False
    """Somebody holds the ordering key of one that is due; nobody knows for how long."""


def claimed_of(rows: Sequence[Row[Any]]) -> Claimed:
    """The claims and the expired ones among rows that end with the columns of a claim."""
    claims = [claim_of(row) for row in rows if row[-CLAIM_FIELDS] is not None]
    expired = [Expired(row.due_id, row.alert_id) for row in rows if row.alert_id is not None]
    return Claimed(claims, expired, [])


CLAIM_FIELDS = len(fields(Claim))


def claim_of(row: Row[Any]) -> Claim:
    """The claim that a row ends with; see :data:`signalpost.repository.taking.CLAIM_COLUMNS`."""
    return Claim(*row[-CLAIM_FIELDS:])
