"""Signals and their deliveries into the outbox, all or nothing.

No statement here fails for what a caller gives: conflicts are avoided (ON CONFLICT) and told by an
exception afterwards, so that a caller's own transaction stays usable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.errors import EnqueueError, IdempotencyConflict, NoEndpoint
from signalpost.repository.recognising import (
    DeliveryView,
    NewSignal,
    Stored,
    identities,
    standing,
)
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

_NOW = "COALESCE(CAST(:now AS timestamptz), statement_timestamp())"

# The lock timeout is set where the rows to insert are read, hence before the first wait, and
# without a round trip of its own. In our own transaction a server that is set to forget its last
# commits in a crash is told to keep this one. A caller's own transaction keeps the values it has.
# Where signals supersede, calls of one key go one after the other, and only then have their place:
# of two at once each would miss the other, and the older one would go out beside the newer.
_INSERT = text(rf"""
WITH limits AS MATERIALIZED (
    SELECT set_config(
        'lock_timeout',
        COALESCE(CAST(:lock_timeout AS text), current_setting('lock_timeout')),
        true
    ) AS lock_timeout, set_config(
        'synchronous_commit',
        CASE WHEN :own AND current_setting('synchronous_commit') = 'off' THEN 'on'
            ELSE current_setting('synchronous_commit') END,
        true
    ) AS synchronous_commit
), given AS (
    SELECT *
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:keys AS text[]), CAST(:bodies AS bytea[]),
        CAST(:instruments AS text[]), CAST(:sides AS text[]), CAST(:actions AS text[]),
        CAST(:expiries AS timestamptz[]), CAST(:confidences AS numeric[]), CAST(:ranks AS int[])
    ) AS given (id, key, body, instrument, side, action, expires_at, confidence, rank)
), alone AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(hashtextextended(
        concat_ws(' ', 'signalpost', CAST(:producer_id AS text), CAST(:supersede_key AS text)), 0))
    FROM limits
    WHERE CAST(:supersede_key AS text) IS NOT NULL AND limits.lock_timeout IS NOT NULL
), call AS MATERIALIZED (
    SELECT COALESCE(CAST(:call AS bigint), nextval('signalpost.positions')) AS number
    FROM (SELECT count(*) FROM alone) waited
), targets AS MATERIALIZED (
    SELECT id, name, ttl_seconds, ordered, NOT :everywhere AS named, sides, actions,
        min_confidence, producers,
        ARRAY(SELECT replace(replace(replace(pattern, '_', '\_'), '*', '%'), '?', '_')
              FROM unnest(instruments) pattern) AS patterns
    FROM signalpost.endpoints
    WHERE removed_at IS NULL AND (:everywhere OR name = ANY(CAST(:names AS text[])))
), complete AS MATERIALIZED (
    SELECT count(*) > 0 AND (:everywhere OR count(*) = cardinality(CAST(:names AS text[]))) AS yes
    FROM targets
), inserted AS (
    INSERT INTO signalpost.signals
        (id, producer_id, idempotency_key, body, instrument, side, action)
    SELECT given.id, :producer_id, given.key, given.body, given.instrument, given.side, given.action
    FROM given, limits, complete
    WHERE complete.yes
        AND limits.lock_timeout IS NOT NULL AND limits.synchronous_commit IS NOT NULL
    ORDER BY given.key
    ON CONFLICT DO NOTHING
    RETURNING id
), made AS (
    INSERT INTO signalpost.deliveries (
        signal_id, endpoint_id, expires_at, priority, ordered, held, ordering_key, supersede_key,
        position)
    SELECT inserted.id, targets.id, COALESCE(
        given.expires_at,
        CASE WHEN NOT :never THEN {_NOW} + make_interval(secs => COALESCE(
            CAST(:ttl AS float8), targets.ttl_seconds, CAST(:default_ttl AS float8))) END
        ),
        CAST(:priority AS smallint), targets.ordered, CASE WHEN targets.ordered THEN 'new' END,
        COALESCE(CAST(:ordering_key AS text), given.instrument), CAST(:supersede_key AS text),
        (call.number << 24) + given.rank
    FROM inserted JOIN given ON given.id = inserted.id CROSS JOIN targets CROSS JOIN call
    WHERE targets.named OR (
        (cardinality(targets.patterns) = 0 OR given.instrument LIKE ANY (targets.patterns))
        AND (targets.sides IS NULL OR given.side = ANY (targets.sides))
        AND (targets.actions IS NULL OR given.action = ANY (targets.actions))
        AND (targets.producers IS NULL OR :producer_id = ANY (targets.producers))
        AND COALESCE(given.confidence >= targets.min_confidence, true))
    RETURNING id, signal_id, endpoint_id, status
)
SELECT inserted.id AS signal_id, made.id, targets.name, made.status, call.number AS call
FROM inserted CROSS JOIN call
LEFT JOIN made ON made.signal_id = inserted.id
LEFT JOIN targets ON targets.id = made.endpoint_id
ORDER BY targets.name
""")

_UNKNOWN_NAMES = text("""
SELECT asked.name
FROM unnest(CAST(:names AS text[])) AS asked (name)
WHERE NOT EXISTS (
    SELECT FROM signalpost.endpoints WHERE endpoints.name = asked.name AND removed_at IS NULL
)
ORDER BY asked.name
""")

_ANY_ENDPOINT = text("SELECT EXISTS (SELECT FROM signalpost.endpoints WHERE removed_at IS NULL)")


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
    nothing takes the signals. Where several signals are given, roll back then: some may be written.
    """
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
        stored |= _insert(conn, left, common)
        left = [signal for signal in left if signal.key not in stored]
        if not left:
            return stored
        stored |= standing(conn, common["producer_id"], left)
        left = [signal for signal in left if signal.key not in stored]
        if not left:
            return stored
        _check_endpoints(conn, common)
        # What stood in the way was rolled back or pruned since, or the endpoint has just come.
    raise EnqueueError(
        f"signal {left[0].id} met others that came and went; call again with the same signal"
    )


def _insert(
    conn: Connection, signals: Sequence[NewSignal], common: dict[str, Any]
) -> dict[str, Stored]:
    ranks = common["rank_of"]
    rows = conn.execute(
        _INSERT,
        {
            **{name: value for name, value in common.items() if name != "rank_of"},
            **identities(signals),
            "instruments": [signal.instrument for signal in signals],
            "sides": [signal.side for signal in signals],
            "actions": [signal.action for signal in signals],
            "expiries": [signal.expires_at for signal in signals],
            "confidences": [signal.confidence for signal in signals],
            "ranks": [ranks[signal.key] for signal in signals],
        },
    )
    deliveries: dict[UUID, list[DeliveryView]] = {}
    for row in rows:
        # All of one call share its number, in whichever chunk they are.
        common["call"] = row.call
        found = deliveries.setdefault(row.signal_id, [])
        if row.id is not None:
            found.append(DeliveryView(row.id, row.name, row.status))
    return {
        signal.key: Stored(signal.id, tuple(deliveries[signal.id]), duplicate=False)
        for signal in signals
        if signal.id in deliveries
    }


def _check_endpoints(conn: Connection, common: dict[str, Any]) -> None:
    if common["everywhere"]:
        if not conn.scalar(_ANY_ENDPOINT):
            raise NoEndpoint
        return
    if not common["names"]:
        raise NoEndpoint("the list of endpoints is empty, so nothing was written; name one")
    unknown = conn.scalars(_UNKNOWN_NAMES, {"names": common["names"]}).all()
    if unknown:
        raise NoEndpoint(
            f"there is no endpoint named {', '.join(map(repr, unknown))}, so nothing was written; "
            "`signalpost endpoint list` shows those there are"
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
