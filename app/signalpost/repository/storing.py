"""The statement that stores signals with their deliveries, and what it could not store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from signalpost.errors import NoEndpoint
from signalpost.repository.looking import NOW
from signalpost.repository.recognising import DeliveryView, NewSignal, Stored, identities
from signalpost.repository.superseding import key_lock

__all__ = ["check_endpoints", "insert"]

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
    SELECT pg_advisory_xact_lock(
        {key_lock("CAST(:producer_id AS text)", "CAST(:supersede_key AS text)")})
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
        CASE WHEN NOT :never THEN {NOW} + make_interval(secs => COALESCE(
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


def insert(
    conn: Connection, signals: Sequence[NewSignal], common: dict[str, Any]
) -> dict[str, Stored]:
    """Store what is not known yet, with its deliveries; return it by key.

    `common` holds the call's own values; its number is added by the first of its statements.
    """
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


def check_endpoints(conn: Connection, common: dict[str, Any]) -> None:
    """Raise NoEndpoint where no endpoint takes the call's signals."""
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
