"""The ops worker's watch: what it finds in a real database, what it tells, and what it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, insert, text
from sqlalchemy.ext.asyncio import AsyncEngine

from signalpost import database
from signalpost.alerts.redis_probe import RedisProbe
from signalpost.alerts.watch import Watch
from signalpost.core.lifecycle import Decision, Status
from signalpost.core.outcomes import Answer, Outcome, Phase, Verdict
from signalpost.core.troubles import Trouble
from signalpost.models import AttemptRow
from signalpost.repository import naming, records, troubles, watching
from signalpost.repository.claimed import Claim
from signalpost.repository.recorded import Record
from tests import rows
from tests.integration.test_plans import FILL, plans, scanned
from tests.integration.test_records import ACCEPTED, WORKER, news


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[AsyncEngine]:
    opened = database.async_engine(database_url)
    yield opened
    await opened.dispose()


class Told:
    """A probe of which the test says what it finds."""

    def __init__(self) -> None:
        self.reason: str | None = None

    async def trouble(self) -> str | None:
        return self.reason


class Steady:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def watch(redis: Told | None = None, **values: Any) -> Watch:
    """A watch that judges at once and believes in an end at once."""
    defaults: dict[str, Any] = {"patience": {}, "settle_seconds": 0.0, "calm_seconds": 0.0}
    return Watch(redis=redis, **{"steady": Steady(), **defaults, **values})


def alerts(engine: Engine) -> list[Mapping[str, Any]]:
    with engine.connect() as connection:
        return list(rows.alerts(connection))


def kinds(engine: Engine) -> list[str]:
    return [row["kind"] for row in alerts(engine)]


def add(engine: Engine, **values: Any) -> UUID:
    """A delivery; ``*_ago`` are seconds before now."""
    with engine.begin() as connection:
        now = rows.database_now(connection)
        for name in [name for name in values if name.endswith("_ago")]:
            values[name.removesuffix("_ago")] = now - timedelta(seconds=values.pop(name))
        return rows.add_delivery(connection, **values)


def add_endpoint(engine: Engine, name: str = "desk") -> int:
    with engine.begin() as connection:
        return rows.add_endpoint(connection, name=name)


def failing(engine: Engine, endpoint_id: int, *, spent: int = 5) -> UUID:
    """A delivery that waits for its next attempt after so many failed ones."""
    delivery_id = add(
        engine, endpoint_id=endpoint_id, spent=spent, attempts=spent, next_attempt_at_ago=-20
    )
    with engine.begin() as connection:
        connection.execute(
            insert(AttemptRow).values(
                delivery_id=delivery_id,
                number=spent,
                claim_id=uuid4(),
                worker_id=uuid4(),
                started_at=rows.database_now(connection),
                phase="body",
                outcome="retry",
                status_code=503,
                counted=True,
            )
        )
    return delivery_id


def succeeded(engine: Engine, endpoint_id: int, *, ago: float = 0.0) -> None:
    add(
        engine,
        endpoint_id=endpoint_id,
        status="delivered",
        finished_at_ago=ago,
        next_attempt_at=None,
    )


def found(engine: Engine, look: Any) -> list[Trouble]:
    with engine.connect() as connection:
        listed: list[Trouble] = look(connection, now=rows.database_now(connection))
        return listed


def mark_all_sent(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE signalpost.alerts SET sent_at = now(), receipt = '1'"))


async def test_an_endpoint_in_trouble_is_told_once_and_well_again_once(
    engine: Engine, db: AsyncEngine
) -> None:
    """However often it is looked at, trouble is one alert, and its end on a success another."""
    endpoint_id = add_endpoint(engine)
    delivery_id = failing(engine, endpoint_id)
    eye = watch()
    for _ in range(3):
        await eye.look(db)
    (alert,) = alerts(engine)
    assert (alert["kind"], alert["endpoint_id"]) == ("endpoint_trouble", endpoint_id)
    assert alert["details"] == {
        "failed attempts": "5",
        "deliveries": "1",
        "last failure": "HTTP 503",
    }
    mark_all_sent(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE signalpost.deliveries SET status = 'delivered', next_attempt_at = NULL,"
                " finished_at = clock_timestamp() WHERE id = :id"
            ),
            {"id": delivery_id},
        )
    for _ in range(3):
        await eye.look(db)
    assert kinds(engine) == ["endpoint_trouble", "endpoint_well"]
    assert set(alerts(engine)[1]["details"]) == {"since", "until"}


async def test_trouble_does_not_end_because_attempts_end(engine: Engine, db: AsyncEngine) -> None:
    """An endpoint that nobody tries any more is not told to be well."""
    endpoint_id = add_endpoint(engine)
    delivery_id = failing(engine, endpoint_id)
    eye = watch()
    await eye.look(db)
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE signalpost.deliveries SET status = 'dead', reason = 'exhausted',"
                " finished_at = clock_timestamp() - interval '1 hour' WHERE id = :id"
            ),
            {"id": delivery_id},
        )
    await eye.look(db)
    assert kinds(engine) == ["endpoint_trouble"]


async def test_two_ops_workers_tell_a_trouble_once(engine: Engine, db: AsyncEngine) -> None:
    """Watches that look at the same moment write one alert between them."""
    failing(engine, add_endpoint(engine))
    add(engine, next_attempt_at_ago=61)
    await asyncio.gather(*(watch().look(db) for _ in range(5)))
    assert sorted(kinds(engine)) == ["endpoint_trouble", "stalled"]


async def test_one_ops_worker_at_a_time_keeps_the_book(engine: Engine, db: AsyncEngine) -> None:
    """While another one writes what has changed, a watch leaves it to that one, without waiting."""
    failing(engine, add_endpoint(engine))
    with engine.begin() as other:
        assert troubles.try_lock(other)
        await watch().look(db)
        assert alerts(engine) == []
    await watch().look(db)
    assert kinds(engine) == ["endpoint_trouble"]


def test_what_makes_an_endpoint_be_in_trouble(engine: Engine) -> None:
    """Five failed attempts over its deliveries, none succeeded lately; rejections do not count."""
    few, busy, sick, strict, dying, over = (
        add_endpoint(engine, name) for name in ("few", "busy", "sick", "strict", "dying", "over")
    )
    failing(engine, few, spent=4)
    failing(engine, busy)
    succeeded(engine, busy, ago=55)
    for _ in range(2):
        failing(engine, sick, spent=3)
    succeeded(engine, sick, ago=65)
    dead = {"status": "dead", "spent": 6, "next_attempt_at": None}
    add(engine, endpoint_id=strict, reason="rejected", finished_at_ago=5, **dead)
    add(engine, endpoint_id=dying, reason="exhausted", finished_at_ago=290, **dead)
    add(engine, endpoint_id=over, reason="exhausted", finished_at_ago=310, **dead)
    troubled = found(engine, watching.endpoints_in_trouble)
    assert [each.endpoint_id for each in troubled] == [sick, dying]
    assert troubled[0].details["failed attempts"] == "6"
    assert troubled[1].details["last failure"] == "none recorded"


async def test_the_first_refusal_is_told_at_once_and_once(engine: Engine, db: AsyncEngine) -> None:
    """The first 401, 403 or 404 of an endpoint alerts with the record; the next one only after
    the endpoint has accepted something.
    """
    endpoint_id = add_endpoint(engine)
    for code in (401, 404):
        record_refusal(engine, endpoint_id, code)
    record_refusal(engine, add_endpoint(engine, "other"), 403)
    assert kinds(engine) == ["endpoint_refuses", "endpoint_refuses"]
    first = alerts(engine)[0]
    assert first["endpoint_id"] == endpoint_id
    assert first["details"]["answer"] == "HTTP 401"
    assert first["details"]["receiver's clock"].endswith("s behind the database's")
    mark_all_sent(engine)

    await watch().look(db)
    record_refusal(engine, endpoint_id, 401)
    assert len(alerts(engine)) == 2
    succeeded(engine, endpoint_id)
    await watch().look(db)
    record_refusal(engine, endpoint_id, 401)
    assert kinds(engine) == ["endpoint_refuses"] * 3


def record_refusal(engine: Engine, endpoint_id: int, code: int) -> None:
    with engine.begin() as connection:
        claim = claim_one(connection, endpoint_id)
        answer = Answer(Phase.BODY, 0.1, status_code=code, date="Mon, 02 Mar 2020 03:00:00 GMT")
        verdict = Verdict(Outcome.RETRY, f"http_{code}", counted=True, maybe_received=False)
        decision = Decision(Status.PENDING, f"http_{code}", 60.0)
        records.record(connection, [news(claim, (answer, verdict, decision))])


def claim_one(connection: Connection, endpoint_id: int) -> Claim:
    wanted = rows.add_delivery(connection, endpoint_id=endpoint_id)
    (claim,) = naming.claim_by_id(connection, [wanted], worker_id=WORKER).claims
    return claim


def test_an_accepted_delivery_raises_no_refusal(engine: Engine) -> None:
    """A record of a success writes neither trouble nor alert."""
    with engine.begin() as connection:
        claim = claim_one(connection, rows.add_endpoint(connection))
        item: Record = news(claim, ACCEPTED)
        records.record(connection, [item])
    assert alerts(engine) == []


def add_workers(engine: Engine, *workers: tuple[str, float, float, bool]) -> list[UUID]:
    """Workers: name, seconds since start, seconds since renewal, whether stopped in order."""
    with engine.begin() as connection:
        now = rows.database_now(connection)
        return [
            rows.add_worker(
                connection,
                name=name,
                started_at=now - timedelta(seconds=started),
                renewed_at=now - timedelta(seconds=renewed),
                stopped_at=now - timedelta(seconds=renewed) if stopped else None,
            )
            for name, started, renewed, stopped in workers
        ]


def test_which_workers_are_gone(engine: Engine) -> None:
    """Silent, not stopped, and not replaced by one that started on the same machine since."""
    add_workers(
        engine,
        ("well:1", 500, 2, False),
        ("slow:1", 500, 29, False),
        ("stopped:1", 500, 100, True),
        ("restarted:1", 500, 100, False),
        ("restarted:2", 95, 1, False),
        ("halved:1", 500, 100, False),
        ("halved:2", 500, 101, False),
        ("halved:3", 95, 1, False),
        ("older-sibling:1", 500, 100, False),
        ("older-sibling:2", 500, 1, False),
        ("crashing:1", 500, 200, False),
        ("crashing:2", 199, 150, False),
        ("crashing:3", 149, 1, False),
        ("long-ago:1", 200_000, 90_000, False),
        ("gone:1", 500, 31, False),
    )
    gone = found(engine, watching.workers_gone)
    assert [each.name for each in gone] == ["gone:1", "halved:2", "older-sibling:1"]
    assert gone[0].details == {"silent for": "31 s", "workers alive": "6"}


async def test_each_worker_that_is_gone_is_told(engine: Engine, db: AsyncEngine) -> None:
    """Two workers that are gone are two alerts, and one that is replaced later is told back."""
    add_workers(engine, ("a:1", 500, 40, False), ("b:1", 500, 40, False))
    eye = watch()
    await eye.look(db)
    assert [row["subject"] for row in alerts(engine)] == ["a:1", "b:1"]
    add_workers(engine, ("a:2", 1, 1, False))
    await eye.look(db)
    assert [(row["kind"], row["subject"]) for row in alerts(engine)[2:]] == [("worker_back", "a:1")]
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM signalpost.workers WHERE name = 'b:1'"))
    await eye.look(db)
    assert len(alerts(engine)) == 3, "a row that was pruned is no proof of a return"


def test_what_nobody_takes(engine: Engine) -> None:
    """Due for a minute and unclaimed, or claimed by a worker that is gone; nothing else."""
    alive, gone = add_workers(engine, ("a:1", 500, 1, False), ("b:1", 500, 100, False))
    sending = {"status": "sending", "next_attempt_at": None}
    add(engine, next_attempt_at_ago=59)
    add(engine, worker_id=alive, claim_id=uuid4(), claimed_at_ago=200, **sending)
    add(engine, worker_id=gone, claim_id=uuid4(), claimed_at_ago=50, **sending)
    with engine.connect() as connection:
        assert watching.overdue(connection, now=rows.database_now(connection)) is None
    add(engine, next_attempt_at_ago=61)
    add(engine, worker_id=gone, claim_id=uuid4(), claimed_at_ago=70, **sending)
    add(engine, worker_id=uuid4(), claim_id=uuid4(), claimed_at_ago=90, **sending)
    with engine.connect() as connection:
        late = watching.overdue(connection, now=rows.database_now(connection))
    assert late is not None
    assert (late.count, round(late.oldest_seconds)) == (3, 90)


async def test_a_stall_is_told_and_its_end(engine: Engine, db: AsyncEngine) -> None:
    """Deliveries that nobody takes are told with their number and age; so is that they move."""
    stuck = add(engine, next_attempt_at_ago=75)
    eye = watch()
    await eye.look(db)
    (alert,) = alerts(engine)
    assert (alert["kind"], alert["details"]["deliveries"]) == ("stalled", "1")
    with engine.begin() as connection:
        naming.claim_by_id(connection, [stuck], worker_id=WORKER)
    await eye.look(db)
    assert kinds(engine) == ["stalled", "moving"]


async def test_nobody_is_judged_by_silence_before_things_have_settled(
    engine: Engine, db: AsyncEngine
) -> None:
    """After a start, an outage of the database, or a jump of its clock, silence proves nothing."""
    steady = Steady()
    add_workers(engine, ("a:1", 500, 40, False))
    eye = watch(settle_seconds=45.0, steady=steady)
    await eye.look(db)
    steady.seconds += 44
    await eye.look(db)  # the steady clock went on by 44 s, the database's did not: a jump
    steady.seconds += 3
    await eye.look(db)
    assert alerts(engine) == []
    unreachable = database.async_engine("postgresql://u:p@127.0.0.1:1/x", connect_timeout=1)
    for _ in range(13):
        steady.seconds += 3
        await eye.look(db)
    with pytest.raises(Exception, match="onnect"):
        await eye.look(unreachable)
    await unreachable.dispose()
    for _ in range(14):
        steady.seconds += 3
        await eye.look(db)
    assert alerts(engine) == []
    steady.seconds += 3
    await eye.look(db)
    assert kinds(engine) == ["worker_gone"]


async def test_redis_gone_and_back_is_told(engine: Engine, db: AsyncEngine) -> None:
    """A Redis that cannot be used is one alert with the reason, and its return another."""
    probe = Told()
    eye = watch(probe)
    await eye.look(db)
    probe.reason = "it refuses the password"
    for _ in range(3):
        await eye.look(db)
    probe.reason = None
    for _ in range(3):
        await eye.look(db)
    assert kinds(engine) == ["redis_gone", "redis_back"]
    assert alerts(engine)[0]["details"] == {"because": "it refuses the password"}


async def test_ops_workers_that_disagree_cause_no_storm(engine: Engine, db: AsyncEngine) -> None:
    """While one ops worker reaches Redis and another does not, there is one alert and no end."""
    probe = Told()
    probe.reason = "it does not answer"
    cut_off, fine = watch(probe, calm_seconds=90.0), watch(Told(), calm_seconds=90.0)
    for _ in range(5):
        await cut_off.look(db)
        await fine.look(db)
    assert kinds(engine) == ["redis_gone"]


async def test_a_probe_tells_what_redis_says(redis_url: str) -> None:
    """A Redis that answers is well; a wrong password and a closed port are told apart."""
    host = redis_url.rpartition("@")[2]
    urls = (redis_url, f"redis://:wrong@{host}", "redis://127.0.0.1:1/0")
    answers = []
    for url in urls:
        probe = RedisProbe(url)
        answers.append(await probe.trouble())
        await probe.aclose()
    assert answers == [None, "it refuses the password", "ConnectionError"]


async def test_the_watch_expires_what_no_engine_does(engine: Engine, db: AsyncEngine) -> None:
    """With no deliver worker at all a delivery past its life ends, with its alert."""
    over = add(engine, expires_at_ago=1, next_attempt_at_ago=5)
    await watch().look(db)
    with engine.connect() as connection:
        assert rows.delivery(connection, over)["status"] == "expired"
    assert [(row["kind"], row["delivery_id"]) for row in alerts(engine)] == [("expired", over)]


async def test_a_heartbeat_message_comes_where_it_is_asked_for(
    engine: Engine, db: AsyncEngine
) -> None:
    """Every so many hours, and not more often, a message says that all is well, in figures."""
    await watch().look(db)
    assert alerts(engine) == []
    succeeded(engine, add_endpoint(engine), ago=10)
    eye = watch(heartbeat_hours=24)
    for _ in range(3):
        await eye.look(db)
    (beat,) = alerts(engine)
    assert beat["kind"] == "heartbeat"
    assert beat["details"]["in 24 h"] == "1 delivered"
    mark_all_sent(engine)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE signalpost.alerts SET created_at = created_at - interval '1 day'")
        )
    await eye.look(db)
    assert kinds(engine) == ["heartbeat", "heartbeat"]


def test_a_look_reads_no_finished_rows(engine: Engine) -> None:
    """With 50,000 finished deliveries, no question of the watch scans a large table."""
    with engine.begin() as connection:
        endpoint_id = rows.add_endpoint(connection)
        for statement in FILL:
            values = {"many": 50_000, "endpoint": endpoint_id}
            wanted = {name: value for name, value in values.items() if f":{name}" in statement}
            connection.execute(text(statement), wanted)
        connection.execute(
            text("UPDATE signalpost.deliveries SET finished_at = now() - interval '1 day'")
        )
        now = rows.database_now(connection)
    failing(engine, endpoint_id)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    looks = (
        lambda c: watching.overdue(c, now=now),
        lambda c: watching.endpoints_in_trouble(c, now=now),
        lambda c: watching.oldest_unsent_seconds(c, now=now),
    )
    for look in looks:
        for plan in plans(engine, look):
            large = {"deliveries", "signals", "attempts", "alerts"}
            assert scanned(plan) & large == set(), plan
