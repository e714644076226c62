"""The second half of a claim: rows taken within quotas and limits, numbered, or ended.

It runs in the look's transaction but in a statement of its own: its snapshot is younger than the
locks on the governed endpoints, so what it counts in flight there is exact. What is locked is
passed over, and taken by a later claim; where PostgreSQL waits in spite of that, it is not for long
(HURRY in looking.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from signalpost.core.lifecycle import MIN_LIFE_SECONDS
from signalpost.core.shares import Quota
from signalpost.repository.keys import BUT, Key, columns
from signalpost.repository.looking import NOW, READY, Look
from signalpost.repository.pacing import AHEAD, PACE, RATE_BURST

__all__ = ["CLAIM_COLUMNS", "LIFE_OVER", "take"]

CLAIM_COLUMNS = """
    d.id AS delivery_id, d.claim_id, d.worker_id, d.created_at AS enqueued_at, d.claimed_at,
    d.attempts AS attempt, d.spent,
    d.maybe_received, d.replays, d.expires_at, s.id AS signal_id, s.producer_id, s.instrument,
    s.body, e.id AS endpoint_id, e.name AS endpoint, e.url, e.secret_ciphertext, e.secret_version,
    CASE WHEN e.previous_secret_until > statement_timestamp()
        THEN e.previous_secret_ciphertext END AS previous_secret_ciphertext,
    e.timeout_seconds, e.max_retries, e.retry_delay_seconds, e.on_unknown,
    d.priority, d.ordered, d.ordering_key, d.sequence, e.on_dead,
    NULLIF(e.headers, '{}'::jsonb) AS headers,
    (e.failures > 0 OR e.opened_at IS NOT NULL) AS troubled,
    (e.max_in_flight IS NOT NULL OR e.opened_at IS NOT NULL) AS governed,
    e.retry_schedule_seconds"""
"""In the order of the fields of a Claim, and last in every statement: rows become claims as they
are."""

LIFE_OVER = f"""
    COALESCE(d.expires_at <= {NOW} + make_interval(secs => {MIN_LIFE_SECONDS}), false)"""

_GIVEN = """unnest(CAST(:asked_ids AS bigint[]), CAST(:highs AS int[]), CAST(:normals AS int[]),
            CAST(:governed AS bool[]))
        WITH ORDINALITY AS p (endpoint_id, high, normal, governed, place)"""

# A virtual schedule (GCRA): `rate_next_at` is when the next one would be due at an even pace; so
# many may be ahead of it as the burst allows.
_PLAN_GOVERNED = f"""
plan AS MATERIALIZED (
    SELECT p.place, p.endpoint_id, p.high, p.normal, pace.rate,
        CASE WHEN p.governed THEN GREATEST(0, LEAST(
            e.max_in_flight - flights.all_of_them,
            CASE WHEN e.opened_at IS NOT NULL THEN 1 - flights.probing END,
            floor(GREATEST(1, floor(pace.rate * {RATE_BURST}))
                - pace.rate * COALESCE(ahead.seconds, 0)
            )::int)) END AS room, COALESCE(ahead.seconds, 0) AS ahead
    FROM {_GIVEN}
    JOIN signalpost.endpoints e ON e.id = p.endpoint_id
    CROSS JOIN LATERAL (SELECT CASE WHEN p.governed THEN {PACE} END AS rate) pace
    CROSS JOIN LATERAL {AHEAD} ahead
    CROSS JOIN LATERAL (
        SELECT count(*) AS all_of_them,
            count(*) FILTER (WHERE d.claimed_at >= e.probe_at) AS probing
        FROM signalpost.deliveries d
        WHERE p.governed AND d.endpoint_id = e.id AND d.status = 'sending'
    ) flights
)"""
_PLAN_FREE = f"""
plan AS MATERIALIZED (
    SELECT p.place, p.endpoint_id, p.high, p.normal, CAST(NULL AS int) AS room FROM {_GIVEN}
)"""

# The exit lane overtakes all but its own key, on unordered endpoints too; on ordered ones only the
# head of a key is ready at all.
_NONE_BEFORE = """
    AND (d.ordered OR NOT EXISTS (
        SELECT FROM signalpost.deliveries o
        WHERE o.endpoint_id = d.endpoint_id AND o.ordering_key = d.ordering_key
          AND o.status IN ('pending', 'sending') AND o.position < d.position))"""

_PAUSED = """EXISTS (
        SELECT FROM signalpost.signals ps JOIN signalpost.pauses pp
        ON (pp.scope = 'producer' AND pp.value = ps.producer_id)
            OR (pp.scope = 'instrument' AND ps.instrument LIKE
                replace(replace(replace(pp.value, '_', '\\_'), '*', '%'), '?', '_'))
        WHERE ps.id = d.signal_id AND NOT (pp.entries_only AND d.priority = 1))"""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a statement must see to; what there is nothing of has no part in it, and costs nothing.

    ``ordered``: there are ordering keys; one that came since the look is left to the next claim.
    ``but``: some of them are known to be held by somebody.
    """

    by_id: bool
    high: bool
    governed: bool
    narrow: bool
    ordered: bool
    but: bool = False

    @property
    def ready(self) -> str:
        return READY if self.ordered else f"{READY} AND NOT d.ordered"

    @property
    def due_columns(self) -> str:
        return f"""d.id, d.endpoint_id, d.priority, d.ordered, d.ordering_key, d.sequence,
            {LIFE_OVER} AS life_over, {_PAUSED if self.narrow else "false"} AS paused"""


def _lane(name: str, shape: _Shape, *, high: bool, quota: str, limit: str) -> str:
    return f"""
{name} AS MATERIALIZED (
    SELECT lane.*
    FROM (SELECT * FROM plan WHERE plan.{"high" if high else "normal"} > 0 ORDER BY place) plan
    CROSS JOIN LATERAL (
        SELECT {shape.due_columns}
        FROM signalpost.deliveries d
        WHERE d.endpoint_id = plan.endpoint_id AND d.priority = {int(high)} AND {shape.ready}
          AND d.next_attempt_at <= {NOW} - make_interval(secs => :overdue_seconds)
          {_NONE_BEFORE if high else ""} {BUT if shape.but else ""}
        ORDER BY d.next_attempt_at
        LIMIT {quota}
        FOR UPDATE OF d SKIP LOCKED
    ) lane
    LIMIT {limit}
)"""


def _lanes(shape: _Shape) -> str:
    if not shape.high:
        return _lane(
            "due", shape, high=False, quota="LEAST(plan.normal, plan.room)", limit=":limit"
        )
    quota = "LEAST(plan.high, plan.room)"
    high = _lane("high", shape, high=True, quota=quota, limit=":limit")
    taken = "(SELECT count(*) FROM high WHERE high.endpoint_id = plan.endpoint_id)"
    rest = f"LEAST(plan.normal, plan.room - {taken})"
    left = ":limit - (SELECT count(*) FROM high)"
    normal = _lane("normal", shape, high=False, quota=rest, limit=left)
    return f"{high}, {normal}, due AS (SELECT * FROM high UNION ALL SELECT * FROM normal)"


def _named(shape: _Shape) -> str:
    return f"""
picked AS MATERIALIZED (
    SELECT d.id, row_number() OVER (
        PARTITION BY d.endpoint_id ORDER BY d.priority DESC, d.next_attempt_at) AS number
    FROM signalpost.deliveries d JOIN plan ON plan.endpoint_id = d.endpoint_id
    WHERE d.id = ANY(CAST(:ids AS uuid[])) AND {READY} AND d.next_attempt_at <= {NOW}
      AND CASE d.priority WHEN 1 THEN plan.high > 0 {_NONE_BEFORE} ELSE plan.normal > 0 END
), due AS MATERIALIZED (
    SELECT {shape.due_columns}
    FROM signalpost.deliveries d
    JOIN picked ON picked.id = d.id
    JOIN plan ON plan.endpoint_id = d.endpoint_id
    WHERE {shape.ready} AND d.next_attempt_at <= {NOW}
      AND (plan.room IS NULL OR picked.number <= plan.room)
    FOR UPDATE OF d SKIP LOCKED
)"""


# The lock of an ordering key is taken here too, or the row passed over (see placing.py).
_MINE_ORDERED = """
keys AS MATERIALIZED (
    SELECT o.endpoint_id, o.ordering_key
    FROM signalpost.orderings o
    JOIN due ON due.ordered AND due.endpoint_id = o.endpoint_id
        AND due.ordering_key = o.ordering_key
    FOR UPDATE OF o SKIP LOCKED
), mine AS MATERIALIZED (
    SELECT due.* FROM due
    WHERE NOT due.ordered OR EXISTS (
        SELECT FROM keys WHERE keys.endpoint_id = due.endpoint_id
            AND keys.ordering_key = due.ordering_key)
), numbered AS (
    UPDATE signalpost.orderings o SET sequence = o.sequence + 1
    FROM mine
    WHERE mine.ordered AND mine.sequence IS NULL AND NOT mine.life_over AND NOT mine.paused
      AND o.endpoint_id = mine.endpoint_id AND o.ordering_key = mine.ordering_key
    RETURNING mine.id, o.sequence
)"""
_MINE_FREE = """
mine AS MATERIALIZED (SELECT due.* FROM due)"""

_PARKED = """, parked AS (
    UPDATE signalpost.deliveries d SET parked = true
    FROM mine WHERE d.id = mine.id AND mine.paused AND NOT mine.life_over
)"""

_PACED = f""", paced AS (
    UPDATE signalpost.endpoints e
    SET rate_next_at = {NOW} + make_interval(secs => plan.ahead + taken.count / plan.rate)
    FROM (SELECT endpoint_id, count(*) FROM claimed GROUP BY endpoint_id) taken
    JOIN plan ON plan.endpoint_id = taken.endpoint_id AND plan.rate IS NOT NULL
    WHERE e.id = taken.endpoint_id
)"""


# Rows past their expiry are taken and ended, not filtered out: filtering would scan them again and
# again while they stand at the head of the queue. So are those that a pause has put aside.
def _take(shape: _Shape) -> str:
    numbers = "LEFT JOIN numbered ON numbered.id = mine.id" if shape.ordered else ""
    sequence = ", sequence = COALESCE(d.sequence, numbered.sequence)" if shape.ordered else ""
    return f"""
{_MINE_ORDERED if shape.ordered else _MINE_FREE}, over AS (
    UPDATE signalpost.deliveries d
    SET status = 'expired', reason = 'expired', next_attempt_at = NULL, finished_at = {NOW}
    FROM mine WHERE d.id = mine.id AND mine.life_over
    RETURNING d.id, d.endpoint_id
), told AS (
    INSERT INTO signalpost.alerts (kind, delivery_id, endpoint_id)
    SELECT 'expired', id, endpoint_id FROM over
    RETURNING id AS alert_id, delivery_id
){_PARKED if shape.narrow else ""}, claimed AS (
    UPDATE signalpost.deliveries d
    SET status = 'sending', claim_id = gen_random_uuid(), worker_id = :worker_id,
        claimed_at = {NOW}, attempts = d.attempts + 1, next_attempt_at = NULL{sequence}
    FROM mine {numbers}
    WHERE d.id = mine.id AND NOT mine.life_over AND NOT mine.paused
    RETURNING d.*
){_PACED if shape.governed else ""}
SELECT told.alert_id, due.id AS due_id, due.endpoint_id AS due_endpoint, due.ordered AS due_ordered,
    due.ordering_key AS due_key, due.priority AS due_priority, due.paused, mine.id AS mine_id,
    {CLAIM_COLUMNS}
FROM due
LEFT JOIN mine ON mine.id = due.id
LEFT JOIN told ON told.delivery_id = due.id
LEFT JOIN claimed d ON d.id = due.id
LEFT JOIN signalpost.signals s ON s.id = d.signal_id
LEFT JOIN signalpost.endpoints e ON e.id = d.endpoint_id"""


@cache
def _statement(shape: _Shape) -> TextClause:
    plan = _PLAN_GOVERNED if shape.governed else _PLAN_FREE
    rows = _named(shape) if shape.by_id else _lanes(shape)
    return text(f"WITH {plan}, {rows}, {_take(shape)}")


def take(
    connection: Connection,
    quotas: Sequence[Quota],
    *,
    worker_id: UUID,
    limit: int,
    overdue_seconds: float,
    look: Look,
    ids: Sequence[UUID] | None,
    now: datetime | None,
    but: Collection[Key] = (),
) -> list[Row[Any]]:
    """Take what is due within the quotas: all that is, or of these deliveries only.

    A row without `mine_id` was not taken: somebody holds its ordering key. Of the keys `but` none
    is looked at.
    """
    values: dict[str, Any] = {
        "asked_ids": [quota.endpoint_id for quota in quotas],
        "highs": [quota.high for quota in quotas],
        "normals": [quota.normal for quota in quotas],
        "governed": [quota.governed for quota in quotas],
        "worker_id": worker_id,
        "now": now,
    }
    if ids is None:
        values |= {"limit": limit, "overdue_seconds": overdue_seconds}
        values |= columns(but) if but else {}
    else:
        values["ids"] = list(ids)
    shape = _Shape(
        by_id=ids is not None,
        high=any(quota.high for quota in quotas),
        governed=any(quota.governed for quota in quotas),
        narrow=look.narrow,
        ordered=look.ordered,
        but=bool(but),
    )
    return list(connection.execute(_statement(shape), values))
