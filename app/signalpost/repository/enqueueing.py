"""Signals and their deliveries into the outbox, all or nothing.

No statement here fails for what a caller gives: conflicts are avoided (ON CONFLICT) and told by an
exception afterwards, so that a caller's own transaction stays usable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from signalpost.errors import EnqueueError, IdempotencyConflict
from signalpost.repository.recognising import (
    DeliveryView,
    NewSignal,
    Stored,
    standing,
)
from signalpost.repository.storing import check_endpoints, insert
from signalpost.repository.superseding import supersede

__all__ = ["DeliveryView", "Life", "NewSignal", "Stored", "Way", "enqueue"]

ROWS_AT_ONCE = 500
BYTES_AT_ONCE = 4_000_000
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Life:
    """How long deliveries live whose signal does not say so, in seconds.

    `never` beats `ttl_seconds`, which beats the endpoint's, which beats `default_ttl_seconds`.
    """

    default_ttl_seconds: float
    ttl_seconds: float | None = None
    never: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """How deliveries go out beside others.

    `high`: in the exit lane. `ordering_key`: None takes the instrument. `supersede_key`: an older
    delivery of the same producer and endpoint with the same key is not sent any more.
    """

    high: bool = False
    ordering_key: str | None = None
    supersede_key: str | None = None


PLAIN = Way()


def enqueue(
    conn: Connection,
    producer_id: str,
    signals: Sequence[NewSignal],
    *,
    life: Life,
    endpoints: Sequence[str] | None = None,
    way: Way = PLAIN,
    lock_timeout_seconds: float | None = None,
    now: datetime | None = None,
) -> list[Stored]:
    """Store the signals with a delivery to each of `endpoints`.

    None: to each there is whose filter takes the signal; one that no filter takes is stored without
    a delivery. The order of the call is the order of the signals.

    A signal whose key and body are known gives back what stands, with the deliveries' current
    statuses; so does one that comes twice in `signals`. `lock_timeout_seconds` bounds each wait for
    another transaction that is storing the same signal; None leaves it to the transaction.

    Raises IdempotencyConflict for a key or id that is known with something else, NoEndpoint where
    nothing takes the signals, EnqueueError for a supersede key in a transaction that sees only what
    was there when it began (REPEATABLE READ, SERIALIZABLE). Where several are given, roll
    back then: some may be written.
    """
    if way.supersede_key is not None and lock_timeout_seconds is None:
        _check_isolation(conn)
    first = _first_of_each_key(signals)
    names = None if endpoints is None else sorted(set(endpoints))
    common = {
        "producer_id": producer_id,
        "names": names or [],
        "everywhere": names is None,
        "never": life.never,
        "ttl": life.ttl_seconds,
        "default_ttl": life.default_ttl_seconds,
        "lock_timeout": None
        if lock_timeout_seconds is None
        else _milliseconds(lock_timeout_seconds),
        "own": lock_timeout_seconds is not None,
        "now": now,
        "priority": int(way.high),
        "ordering_key": way.ordering_key,
        "supersede_key": way.supersede_key,
        "call": None,
        "rank_of": {signal.key: rank for rank, signal in enumerate(first.values())},
    }
    stored: dict[str, Stored] = {}
    for chunk in _chunks(sorted(first.values(), key=lambda signal: signal.key)):
        stored.update(_store(conn, chunk, common))
    if way.supersede_key is not None:
        newer = [
            delivery.delivery_id
            for one in stored.values()
            if not one.duplicate
            for delivery in one.deliveries
        ]
        if newer:
            supersede(conn, producer_id, newer, now=now)
    return _in_order(signals, stored)


def _check_isolation(conn: Connection) -> None:
    level = conn.execute(text("SELECT current_setting('transaction_isolation')")).scalar_one()
    if level != "read committed":
        raise EnqueueError(
            f"supersede_key does not work in a {level.upper()} transaction, which does not see "
            "what others have enqueued since it began, and nothing was written; use READ COMMITTED"
        )


def _in_order(signals: Sequence[NewSignal], stored: dict[str, Stored]) -> list[Stored]:
    """One result a signal; whatever comes a second time is a duplicate of the first."""
    results, seen = [], set()
    for signal in signals:
        one = stored[signal.key]
        results.append(replace(one, duplicate=True) if signal.key in seen else one)
        seen.add(signal.key)
    return results


def _store(
    conn: Connection, chunk: Sequence[NewSignal], common: dict[str, Any]
) -> dict[str, Stored]:
    """What became of each signal of the chunk, by its key."""
    stored: dict[str, Stored] = {}
    left = list(chunk)
    for _ in range(_TRIES):
        stored |= insert(conn, left, common)
        left = [signal for signal in left if signal.key not in stored]
        if not left:
            return stored
        stored |= standing(conn, common["producer_id"], left)
        left = [signal for signal in left if signal.key not in stored]
        if not left:
            return stored
        check_endpoints(conn, common)
        # What stood in the way was rolled back or pruned since, or the endpoint has just come.
    raise EnqueueError(
        f"signal {left[0].id} met others that came and went; call again with the same signal"
    )


def _first_of_each_key(signals: Sequence[NewSignal]) -> dict[str, NewSignal]:
    first: dict[str, NewSignal] = {}
    for signal in signals:
        if first.setdefault(signal.key, signal).body != signal.body:
            raise IdempotencyConflict(
                f"the key {signal.key!r} comes twice with different bodies; "
                "use a new key for a new signal"
            )
    return first


def _chunks(signals: Sequence[NewSignal]) -> Iterator[list[NewSignal]]:
    chunk: list[NewSignal] = []
    size = 0
    for signal in signals:
        if chunk and (len(chunk) == ROWS_AT_ONCE or size + len(signal.body) > BYTES_AT_ONCE):
            yield chunk
            chunk, size = [], 0
        chunk.append(signal)
        size += len(signal.body)
    if chunk:
        yield chunk


def _milliseconds(seconds: float) -> str:
    # PostgreSQL reads 0 as "no limit".
    return str(max(1, int(seconds * 1000)))
