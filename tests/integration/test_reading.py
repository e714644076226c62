from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, insert, text

from signalpost import database
from signalpost.core.lifecycle import Status
from signalpost.models import AttemptRow, TroubleRow
from signalpost.repository.overview import overview
from signalpost.repository.reading import (
    database_time,
    find_deliveries,
    list_deliveries,
    schema_revision,
    statuses_of,
)
from signalpost.repository.selecting import Selection
from signalpost.repository.stories import delivery_story, signal_body
from tests import rows
from tests.integration.test_plans import FILL, plans


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        yield connection


def add_attempt(conn: Connection, delivery_id: UUID, number: int = 1, **values: Any) -> None:
    row = {
        "delivery_id": delivery_id,
        "number": number,
        "claim_id": uuid4(),
        "worker_id": uuid4(),
        "started_at": database_time(conn),
        "phase": "body",
        "outcome": "retry",
        "status_code": 503,
        "counted": True,
        **values,
    }
    conn.execute(insert(AttemptRow).values(row))


def finished(conn: Connection, status: str, **values: Any) -> UUID:
    now = database_time(conn)
    given = {"status": status, "next_attempt_at": None, "finished_at": now, **values}
    return rows.add_delivery(conn, **given)


def test_lists_are_newest_first_and_paged_without_gaps(conn: Connection) -> None:
    """Pages joined by `before` hold each delivery once, also those enqueued at the same moment."""
    moment = database_time(conn)
    all_of_them = {rows.add_delivery(conn, created_at=moment) for _ in range(5)}
    newest = rows.add_delivery(conn, created_at=moment + timedelta(seconds=1))

    pages: list[list[UUID]] = []
    before = None
    while page := list_deliveries(conn, limit=2, before=before):
        pages.append([line.delivery_id for line in page])
        before = pages[-1][-1]

    assert pages[0][0] == newest
    assert [len(page) for page in pages] == [2, 2, 2]
    assert {one for page in pages for one in page} == all_of_them | {newest}


def test_lists_are_filtered(conn: Connection) -> None:
    """Status, endpoint, instrument, producer, reason and times leave only what they say."""
    desk = rows.add_endpoint(conn, name="desk")
    old = rows.add_delivery(conn, created_at=database_time(conn) - timedelta(hours=2))
    dead = finished(conn, "dead", reason="exhausted")
    other = rows.add_signal(conn, producer_id="other")
    to_desk = rows.add_delivery(conn, endpoint_id=desk, signal_id=other)
    ibm = rows.add_delivery(conn, signal_id=rows.add_signal(conn, instrument="IBM"))

    def found(**filters: Any) -> set[UUID]:
        return {line.delivery_id for line in list_deliveries(conn, Selection(**filters))}

    assert found() == {old, dead, to_desk, ibm}
    assert found(statuses=(Status.DEAD, Status.EXPIRED)) == {dead}
    assert found(endpoint="desk") == {to_desk}
    assert found(instrument="IBM") == {ibm}
    assert found(since=database_time(conn) - timedelta(hours=1)) == {dead, to_desk, ibm}
    assert found(until=database_time(conn) - timedelta(hours=1)) == {old}
    assert found(producer="other") == {to_desk}
    assert found(reason="exhausted") == {dead}
    assert found(endpoint="nobody") == set()


def test_a_list_tells_labels_only(conn: Connection) -> None:
    """A line has ids, labels, status and times, and nothing of the body or the secret."""
    signal_id = rows.add_signal(conn, body=b'{"reason":"private"}', side="sell", action="close")
    endpoint_id = rows.add_endpoint(conn, name="desk", secret_ciphertext=b"sealed")
    delivery_id = finished(
        conn, "dead", signal_id=signal_id, endpoint_id=endpoint_id, reason="gone", attempts=3
    )

    [line] = list_deliveries(conn)

    assert (line.delivery_id, line.signal_id) == (delivery_id, signal_id)
    assert (line.endpoint, line.instrument, line.side, line.action) == (
        "desk",
        "AAPL",
        "sell",
        "close",
    )
    assert (line.status, line.reason, line.attempts) == (Status.DEAD, "gone", 3)
    assert "private" not in repr(line)
    assert "sealed" not in repr(line)


def test_an_id_is_found_by_its_beginning(conn: Connection) -> None:
    """A range of ids finds deliveries by their own ids and by their signals'."""
    signal_id = UUID("aaaa0000-0000-4000-8000-000000000001")
    rows.add_signal(conn, id=signal_id)
    own = UUID("bbbb0000-0000-4000-8000-000000000001")
    rows.add_delivery(conn, id=own, signal_id=signal_id)
    other = UUID("bbbb0000-0000-4000-8000-000000000002")
    rows.add_delivery(conn, id=other)

    def found(prefix: str) -> list[UUID]:
        return find_deliveries(
            conn, UUID(prefix.ljust(32, "0")), UUID(prefix.ljust(32, "f")), limit=5
        )

    assert found("aaaa") == [own]
    assert sorted(found("bbbb")) == [own, other]
    assert found("bbbb00000000400080000000000000" + "02") == [other]
    assert found("cccc") == []


def test_a_story_holds_everything_but_the_body(conn: Connection) -> None:
    """A story tells the delivery, each attempt with its worker's name, and each alert."""
    worker_id = rows.add_worker(conn, name="host:42")
    endpoint_id = rows.add_endpoint(conn, name="desk", url="https://desk.example/in")
    signal_id = rows.add_signal(conn, body=b"private")
    delivery_id = finished(
        conn,
        "dead",
        reason="exhausted",
        endpoint_id=endpoint_id,
        signal_id=signal_id,
        attempts=2,
        spent=2,
        maybe_received=True,
    )
    add_attempt(conn, delivery_id, 2, failure="timeout", status_code=None, counted=False, late=True)
    add_attempt(conn, delivery_id, 1, worker_id=worker_id, excerpt=b"\x00no", duration_seconds=0.5)
    rows.add_alert(conn, kind="dead", delivery_id=delivery_id, endpoint_id=endpoint_id)

    story = delivery_story(conn, delivery_id)

    assert story is not None
    assert (story.url, story.producer_id) == ("https://desk.example/in", "tests")
    assert (story.spent, story.maybe_received, story.replays) == (2, True, 0)
    first, second = story.attempts
    assert (first.number, first.worker, first.excerpt) == (1, "host:42", b"\x00no")
    assert (second.failure, second.counted, second.late) == ("timeout", False, True)
    assert [(alert.kind, alert.receipt) for alert in story.alerts] == [("dead", None)]
    assert "private" not in repr(story)
    assert signal_body(conn, signal_id) == b"private"
    assert delivery_story(conn, uuid4()) is None


def test_statuses_are_told_by_id(conn: Connection) -> None:
    """Each delivery that is there is told with its status, and no other."""
    pending, dead = rows.add_delivery(conn), finished(conn, "dead")

    found = statuses_of(conn, [pending, dead, uuid4()])

    assert found == {pending: Status.PENDING, dead: Status.DEAD}


def test_the_revision_is_the_migrations(conn: Connection) -> None:
    """The tables' revision is what Alembic wrote, and None in a database without tables."""
    assert schema_revision(conn) == database.REVISION
    conn.execute(text("DROP TABLE signalpost.alembic_version"))
    assert schema_revision(conn) is None


def overview_at(conn: Connection, moment: datetime) -> Any:
    return overview(conn, now=moment)


def test_an_overview_counts_what_waits(conn: Connection) -> None:
    """Pending and sending are counted, and of the due ones how many and how old they are."""
    now = database_time(conn)
    for seconds in (-30, -5, 60):
        rows.add_delivery(conn, next_attempt_at=now + timedelta(seconds=seconds))
    rows.add_delivery(
        conn, status="sending", claim_id=uuid4(), worker_id=uuid4(), next_attempt_at=None
    )

    seen = overview_at(conn, now)

    assert seen.unfinished == {Status.PENDING: 3, Status.SENDING: 1}
    assert (seen.due, seen.overdue) == (2, 1)
    assert seen.oldest_due_seconds == pytest.approx(30)
    assert overview_at(conn, now - timedelta(minutes=1)).oldest_due_seconds is None


def test_an_overview_tells_of_the_last_minutes(conn: Connection) -> None:
    """What was enqueued and what ended in the last five minutes, and no more, makes the rates."""
    now = database_time(conn)
    for minutes in (1, 4, 6):
        moment = now - timedelta(minutes=minutes)
        finished(conn, "delivered", created_at=moment, finished_at=moment)

    seen = overview_at(conn, now).recently

    assert (seen.enqueued, seen.enqueued_seconds) == (2, 300)
    assert (seen.finished, seen.finished_seconds) == ({Status.DELIVERED: 2}, 300)


def test_an_overview_counts_the_newest_and_says_so(conn: Connection) -> None:
    """Past the bound the count is a least, and the rate is that of the newest: still true."""
    now = database_time(conn)
    for seconds in (10, 20, 30):
        moment = now - timedelta(seconds=seconds)
        finished(conn, "delivered", created_at=moment, finished_at=moment)

    whole = overview(conn, now=now, most=4)
    bounded = overview(conn, now=now, most=2)

    assert not whole.finished_at_least
    assert (bounded.finished[Status.DELIVERED], bounded.finished_at_least) == (2, True)
    assert (bounded.recently.enqueued, bounded.recently.enqueued_seconds) == (2, 20)
    assert bounded.recently.finished_seconds == 20


def test_an_overview_tells_of_lasting_trouble(conn: Connection) -> None:
    """What was told to the operator and has not ended stands in it, by its endpoint's name."""
    desk = rows.add_endpoint(conn, name="desk")
    conn.execute(
        insert(TroubleRow).values(kind="endpoint_trouble", subject=str(desk), endpoint_id=desk)
    )

    [lasting] = overview(conn).lasting

    assert (lasting.kind, lasting.subject) == ("endpoint_trouble", "desk")


def test_an_overview_counts_what_has_ended(conn: Connection) -> None:
    """Dead letters are counted however old; delivered ones within the window only."""
    now = database_time(conn)
    long_ago = now - timedelta(hours=25)
    for status, moment in (
        ("delivered", now),
        ("delivered", long_ago),
        ("dead", long_ago),
        ("expired", now),
        ("cancelled", now),
    ):
        finished(conn, status, finished_at=moment)

    seen = overview_at(conn, now)

    assert seen.dead_letters == {Status.DEAD: 1, Status.EXPIRED: 1}
    assert seen.finished[Status.DELIVERED] == 1
    assert seen.finished[Status.DEAD] == 0
    assert seen.finished[Status.CANCELLED] == 1


def test_an_overview_names_endpoints_in_trouble(conn: Connection) -> None:
    """An endpoint with retries waiting or recent dead letters is named with its last failure."""
    now = database_time(conn)
    desk = rows.add_endpoint(conn, name="desk")
    faraway = rows.add_endpoint(conn, name="faraway")
    waiting = rows.add_delivery(conn, endpoint_id=desk, spent=1, attempts=1)
    add_attempt(conn, waiting, status_code=503)
    dead = finished(conn, "dead", endpoint_id=faraway, attempts=1)
    add_attempt(conn, dead, status_code=None, failure="connect_failure")
    rows.add_delivery(conn, endpoint_id=rows.add_endpoint(conn, name="healthy"))

    seen = overview_at(conn, now + timedelta(seconds=1))

    assert [(t.endpoint, t.retrying, t.dead_letters, t.last_failure) for t in seen.trouble] == [
        ("faraway", 0, 1, "connect_failure"),
        ("desk", 1, 0, "http_503"),
    ]


def test_an_overview_tells_living_workers_from_silent_ones(conn: Connection) -> None:
    """A worker is alive while it renews; one that ended well or long ago is not listed."""
    now = database_time(conn)
    for name, seconds, stopped in (
        ("alive", 1, None),
        ("silent", 20, None),
        ("stopped", 1, now),
        ("forgotten", 7200, None),
    ):
        renewed = now - timedelta(seconds=seconds)
        rows.add_worker(conn, name=name, renewed_at=renewed, stopped_at=stopped)

    seen = overview_at(conn, now)

    assert [(worker.name, worker.alive) for worker in seen.workers] == [
        ("alive", True),
        ("silent", False),
    ]


def test_an_overview_counts_unsent_alerts(conn: Connection) -> None:
    """Alerts without a receipt are counted, with the age of the oldest."""
    delivery_id = finished(conn, "dead")
    sent = rows.add_alert(conn, kind="dead", delivery_id=delivery_id)
    rows.mark_alert_sent(conn, sent)
    assert overview(conn).alerts_unsent == 0

    now = database_time(conn)
    rows.add_alert(
        conn, kind="dead", delivery_id=delivery_id, created_at=now - timedelta(minutes=3)
    )

    seen = overview_at(conn, now)
    assert seen.alerts_unsent == 1
    assert seen.oldest_alert_seconds == pytest.approx(180)


@pytest.fixture
def many_finished(engine: Engine) -> Engine:
    """An outbox of 20,000 deliveries that were delivered one a second, and a few others."""
    with engine.begin() as conn:
        endpoint_id = rows.add_endpoint(conn)
        for statement in FILL:
            values = {"many": 20_000, "endpoint": endpoint_id}
            wanted = {name: value for name, value in values.items() if f":{name}" in statement}
            conn.execute(text(statement), wanted)
        conn.execute(
            text("""
            WITH numbered AS (SELECT id, row_number() OVER () AS n FROM signalpost.deliveries)
            UPDATE signalpost.deliveries d
            SET created_at = d.created_at - make_interval(days => 30, secs => n),
                finished_at = d.finished_at - make_interval(days => 30, secs => n)
            FROM numbered WHERE numbered.id = d.id
            """)
        )
        for status in ("dead", "expired", "delivered"):
            finished(conn, status, endpoint_id=endpoint_id)
        rows.add_delivery(conn, endpoint_id=endpoint_id, spent=1)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("VACUUM ANALYZE"))
    return engine


def scanned_whole(plan: dict[str, Any]) -> list[str]:
    """The big tables that a plan reads from end to end."""
    found = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" else []
    found += [name for child in plan.get("Plans", ()) for name in scanned_whole(child)]
    return [name for name in found if name in ("deliveries", "signals", "attempts", "alerts")]


def test_no_look_reads_all_that_was_ever_finished(many_finished: Engine) -> None:
    """Lists, searches, stories and the overview go by indexes, whatever they are asked for."""
    with many_finished.connect() as conn:
        newest = list_deliveries(conn, limit=1)[0]

    looks = {
        "overview": overview,
        "list": list_deliveries,
        "page": lambda conn: list_deliveries(conn, before=newest.delivery_id),
        "dead letters": lambda conn: list_deliveries(conn, Selection(statuses=(Status.DEAD,))),
        "recent": lambda conn: list_deliveries(conn, Selection(since=newest.created_at)),
        "find": lambda conn: find_deliveries(conn, UUID(int=0), UUID(int=1 << 100)),
        "story": lambda conn: delivery_story(conn, newest.delivery_id),
        "statuses": lambda conn: statuses_of(conn, [newest.delivery_id]),
    }
    whole = {
        name: [table for plan in plans(many_finished, look) for table in scanned_whole(plan)]
        for name, look in looks.items()
    }

    assert not any(whole.values()), whole
