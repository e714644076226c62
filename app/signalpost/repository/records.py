"""Records: what attempts brought back, many in one statement, each moved by its own claim id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from signalpost.core.lifecycle import Standing, Status, settle
from signalpost.core.refusals import refusal
from signalpost.repository import breakers, troubles
from signalpost.repository.breakers import Heard, note
from signalpost.repository.keys import Key, lock_keys, take_keys
from signalpost.repository.looking import HURRY, NOW
from signalpost.repository.placing import promote
from signalpost.repository.recorded import Record, Recorded, attempt_columns, move_columns
from signalpost.repository.superseding import let_go

# A strategy may leave a transaction open in which it has superseded one of these. The others do not
# wait for its end; so this transaction waits for nobody longer than a moment.
_HURRY = text(f"SELECT {HURRY}")

_LOCK = text(f"""
WITH hurry AS MATERIALIZED (SELECT {HURRY} AS set)
SELECT d.id, d.status, d.claim_id, d.wanted_end
FROM signalpost.deliveries d, hurry
WHERE d.id = ANY(CAST(:ids AS uuid[])) AND hurry.set IS NOT NULL
ORDER BY d.id
FOR UPDATE OF d
""")

_THERE = text("SELECT id FROM signalpost.deliveries WHERE id = ANY(CAST(:ids AS uuid[]))")
_LOCK_FREE = text("""
SELECT id FROM signalpost.deliveries
WHERE id = ANY(CAST(:ids AS uuid[]))
ORDER BY id
FOR UPDATE SKIP LOCKED
""")

_WRITE_ATTEMPTS = text(f"""
INSERT INTO signalpost.attempts AS known (
    delivery_id, number, claim_id, worker_id, started_at, duration_seconds, phase, outcome,
    status_code, failure, detail, counted, late, excerpt, recorded_at)
SELECT news.*, {NOW}
FROM unnest(
    CAST(:delivery_ids AS uuid[]), CAST(:numbers AS int[]), CAST(:claim_ids AS uuid[]),
    CAST(:worker_ids AS uuid[]), CAST(:started_ats AS timestamptz[]),
    CAST(:durations AS float8[]), CAST(:phases AS text[]), CAST(:outcomes AS text[]),
    CAST(:status_codes AS int[]), CAST(:failures AS text[]), CAST(:details AS text[]),
    CAST(:counted AS bool[]), CAST(:late AS bool[]), CAST(:excerpts AS bytea[])) AS news
ON CONFLICT (claim_id) DO UPDATE SET
    duration_seconds = excluded.duration_seconds, phase = excluded.phase,
    outcome = excluded.outcome, status_code = excluded.status_code, failure = excluded.failure,
    detail = excluded.detail, excerpt = excluded.excerpt, late = true,
    recorded_at = excluded.recorded_at
WHERE known.failure = 'claim_lost' AND excluded.failure IS DISTINCT FROM 'claim_lost'
""")

_MOVE = text(f"""
WITH news AS (
    SELECT * FROM unnest(
        CAST(:delivery_ids AS uuid[]), CAST(:statuses AS text[]), CAST(:reasons AS text[]),
        CAST(:delays AS float8[]), CAST(:spent AS int[]), CAST(:maybe AS bool[]),
        CAST(:alerts AS text[])
    ) AS news (id, status, reason, delay, spent, maybe, alert)
), moved AS (
    UPDATE signalpost.deliveries d
    SET status = news.status, reason = news.reason,
        next_attempt_at = {NOW} + make_interval(secs => news.delay),
        finished_at = CASE WHEN news.status <> 'pending' THEN {NOW} END,
        spent = d.spent + news.spent, maybe_received = d.maybe_received OR news.maybe,
        claim_id = NULL, worker_id = NULL, claimed_at = NULL, wanted_end = NULL
    FROM news WHERE d.id = news.id
    RETURNING d.id, d.endpoint_id, d.ordered, d.ordering_key, d.supersede_key, d.status
), told AS (
    INSERT INTO signalpost.alerts (kind, delivery_id, endpoint_id)
    SELECT news.alert, moved.id, moved.endpoint_id
    FROM moved JOIN news USING (id)
    WHERE news.alert IN ('dead', 'expired')
       OR (news.alert = 'corrected' AND EXISTS (
            SELECT FROM signalpost.alerts told
            WHERE told.delivery_id = moved.id AND told.kind IN ('dead', 'expired')))
    RETURNING delivery_id, id AS alert_id
)
SELECT moved.id, moved.endpoint_id, moved.ordered, moved.ordering_key, moved.supersede_key,
    moved.status, told.alert_id
FROM moved LEFT JOIN told ON told.delivery_id = moved.id
WHERE moved.ordered OR moved.supersede_key IS NOT NULL OR told.alert_id IS NOT NULL
""")

# Under the keys' locks: their successors wait until a person has decided.
_BLOCK = text("""
UPDATE signalpost.orderings o SET blocked_by = dead.id
FROM unnest(CAST(:ids AS uuid[]), CAST(:endpoint_ids AS bigint[]), CAST(:keys AS text[]))
    AS dead (id, endpoint_id, ordering_key)
JOIN signalpost.endpoints e ON e.id = dead.endpoint_id AND e.on_dead = 'block'
WHERE o.endpoint_id = dead.endpoint_id AND o.ordering_key = dead.ordering_key
""")


def record(
    connection: Connection, records: Sequence[Record], *, now: datetime | None = None
) -> dict[UUID, Recorded]:
    """Write attempts, move their deliveries and raise the alerts, in the caller's transaction.

    Args:
        connection: in a transaction that the caller commits.
        records: at most one for each delivery (two of one delivery go in two calls).
        now: database time instead of the statement's own.

    Returns:
        What became of each, by claim id; a delivery that no longer exists is left out.

    Raises what the driver says of a lock that is not to be had within a moment.
    """
    keys = _keys(records)
    if keys:
        connection.execute(_HURRY)
        lock_keys(connection, keys)
    standings = _lock(connection, [item.delivery_id for item in records])
    known = [item for item in records if item.delivery_id in standings]
    if not known:
        return {}
    late = {item.claim_id: standings[item.delivery_id].claim_id != item.claim_id for item in known}
    _write_attempts(connection, known, late, now)
    moves = [
        (item, change)
        for item in known
        if (change := settle(standings[item.delivery_id], item.claim_id, item.decision)) is not None
    ]
    alerts: Mapping[UUID, int] = {}
    freed: frozenset[UUID] = frozenset()
    if moves:
        moved = connection.execute(_MOVE, {**move_columns(moves, late), "now": now}).all()
        alerts = {row.id: row.alert_id for row in moved if row.alert_id is not None}
        freed = _let_successors_go(connection, moved, keys)
    changes = {item.claim_id: change for item, change in moves}
    answers = {
        item.claim_id: Recorded(
            applied=change is not None,
            late=late[item.claim_id],
            status=change.status if change else standings[item.delivery_id].status,
            alert_id=alerts.get(item.delivery_id),
            freed=item.delivery_id in freed,
        )
        for item in known
        for change in (changes.get(item.claim_id),)
    }
    notices = note(connection, _heard(item for item, _ in moves), now=now)
    if notices:
        first = known[0].claim_id
        answers[first] = replace(answers[first], notices=tuple(notices))
    return answers


def _write_attempts(
    connection: Connection,
    items: Sequence[Record],
    late: Mapping[UUID, bool],
    now: datetime | None,
) -> None:
    connection.execute(_WRITE_ATTEMPTS, {**attempt_columns(items, late), "now": now})
    refusals = [
        (item.delivery_id, labels)
        for item in items
        if (labels := refusal(item.answer, item.started_at)) is not None
    ]
    if refusals:
        troubles.note_refusals(connection, refusals)


def _heard(items: Iterable[Record]) -> list[Heard]:
    return [
        Heard(claim.endpoint_id, claim.claimed_at, item.verdict, claim.troubled)
        for item in items
        if (claim := item.claim) is not None
    ]


def unheld(connection: Connection, records: Sequence[Record]) -> list[Record]:
    """Lock what nobody else holds of all that these records need; return those, at once."""
    taken = take_keys(connection, _keys(records))
    near = [item for item in records if (key := _key(item)) is None or key in taken]
    ids = {"ids": [item.delivery_id for item in near]}
    locked = set(connection.execute(_LOCK_FREE, ids).scalars())
    held = set(connection.execute(_THERE, ids).scalars()) - locked
    there = [item for item in near if item.delivery_id not in held]
    free = breakers.unheld(connection, _heard(there))
    return [item for item in there if item.claim is None or item.claim.endpoint_id in free]


def _key(item: Record) -> Key | None:
    return None if item.claim is None else item.claim.key


def _keys(records: Sequence[Record]) -> set[Key]:
    return {key for item in records if (key := _key(item)) is not None}


def _let_successors_go(
    connection: Connection, moved: Sequence[Row[Any]], locked: set[Key]
) -> frozenset[UUID]:
    """Promote the next of every ordering key of which one has ended; return those that ended so."""
    terminal = [row for row in moved if Status(row.status).terminal]
    replaced = [row for row in terminal if row.supersede_key is not None]
    let_go(connection, [(row.endpoint_id, row.supersede_key) for row in replaced])
    ended = [row for row in terminal if row.ordered]
    if not ended:
        return frozenset(row.id for row in replaced)
    keys = {(row.endpoint_id, row.ordering_key) for row in ended}
    # Late news of claims that nobody knew to be ordered: locked late rather than not at all.
    lock_keys(connection, keys - locked)
    dead = [row for row in ended if row.status == Status.DEAD]
    if dead:
        connection.execute(
            _BLOCK,
            {
                "ids": [row.id for row in dead],
                "endpoint_ids": [row.endpoint_id for row in dead],
                "keys": [row.ordering_key for row in dead],
            },
        )
    unsent = [row.id for row in ended if row.status != Status.DELIVERED]
    promote(connection, keys, unsent=unsent)
    return frozenset(row.id for row in (*ended, *replaced))


def _lock(connection: Connection, delivery_ids: Sequence[UUID]) -> dict[UUID, Standing]:
    # A statement of its own, before anything is decided: the rows' newest versions, in one order,
    # so that two workers with news of the same deliveries wait for each other and never deadlock.
    rows = connection.execute(_LOCK, {"ids": list(delivery_ids)})
    return {
        row.id: Standing(
            Status(row.status), row.claim_id, Status(row.wanted_end) if row.wanted_end else None
        )
        for row in rows
    }
