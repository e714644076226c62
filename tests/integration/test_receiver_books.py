from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from signalpost.core.signals import Signal
from signalpost.core.signing import Profile
from signalpost.errors import BookError, ConfigurationError
from signalpost.receiver import (
    Book,
    PostgresBook,
    Received,
    Refused,
    Reply,
    SqliteBook,
    Verdict,
)
from signalpost.receiver.book import Entry, Mark
from tests.databases import cloned, with_database
from tests.desks import NOW, Desk, PostgresDesk, SqliteDesk, body_of, outgoing, post
from tests.processes import wait_for


@pytest.fixture
def postgres_desk(postgres_server: str) -> Iterator[PostgresDesk]:
    with cloned(postgres_server, "template1") as address:
        desk = PostgresDesk(address)
        yield desk
        desk.close()


@pytest.fixture
def sqlite_desk(tmp_path: Path) -> Iterator[SqliteDesk]:
    desk = SqliteDesk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture(params=["sqlite", "postgres"])
def desk(request: pytest.FixtureRequest) -> Desk:
    """Every test that asks for it holds for both kinds of book."""
    desk: Desk = request.getfixturevalue(f"{request.param}_desk")
    return desk


async def test_a_signal_is_accepted_and_answered(desk: Desk) -> None:
    """A verified signal is handed over once and answered 201 with the fields of the contract."""
    facts = outgoing(sequence=7)

    answer = await post(desk.app(), facts)

    assert answer.status_code == 201
    assert answer.json() == {
        "signal_id": Signal.from_json(facts.body).model_dump(mode="json")["id"],
        "status": "received",
        "server_timestamp": "2026-03-02T12:00:00.250000Z",
        "message": "",
        "errors": [],
    }
    assert desk.orders() == 1
    assert desk.seen[0].verdict is Verdict.ACCEPTED
    kept = desk.ask("SELECT delivery_id, attempt, sequence FROM signalpost_received")
    assert [(str(key), *rest) for key, *rest in kept] == [(facts.delivery_id, 1, 7)]


async def test_a_duplicate_gets_the_first_answer(desk: Desk) -> None:
    """A later attempt of an accepted delivery is answered 200 as before, and has no effect."""
    desk.reply = Reply("pending_approval", "the risk desk looks at it")
    facts = outgoing()
    app = desk.app()
    await post(app, facts)

    answer = await post(app, replace(facts, attempt=2))

    assert answer.status_code == 200
    assert answer.json()["status"] == "pending_approval"
    assert answer.json()["message"] == "the risk desk looks at it"
    assert desk.orders() == 1


async def test_a_duplicate_of_one_under_way_is_asked_to_come_again(desk: Desk) -> None:
    """While a delivery is being dealt with, its duplicate gets 503 with Retry-After."""
    desk.release.clear()
    facts = outgoing()
    app = desk.app()
    first = asyncio.create_task(post(app, facts))
    await asyncio.to_thread(desk.entered.wait, 10)

    second = await post(app, replace(facts, attempt=2))
    desk.release.set()

    assert second.status_code == 503
    assert second.headers["retry-after"] == "1"
    assert (await first).status_code == 201
    assert (await post(app, replace(facts, attempt=3))).status_code == 200
    assert desk.orders() == 1


async def test_a_request_that_is_given_up_keeps_its_key_taken(desk: Desk) -> None:
    """A sender that goes away does not free the key of a delivery whose handler still runs."""
    desk.release.clear()
    facts = outgoing()
    app = desk.app()
    first = asyncio.create_task(post(app, facts))
    await asyncio.to_thread(desk.entered.wait, 10)
    first.cancel()
    await asyncio.wait({first})

    assert (await post(app, replace(facts, attempt=2))).status_code == 503
    desk.release.set()
    await asyncio.to_thread(wait_for, lambda: not desk.book._under_way)

    assert (await post(app, replace(facts, attempt=3))).status_code == 200
    assert desk.orders() == 1


async def test_the_canonical_profile_dedupes_by_body(desk: Desk) -> None:
    """Where the key is not signed, the same body under another key is a duplicate."""
    facts = outgoing()
    app = desk.app(profile=Profile.CANONICAL)
    await post(app, facts)

    answer = await post(app, replace(facts, delivery_id=str(uuid4())))

    assert answer.status_code == 200
    assert desk.orders() == 1


@pytest.mark.parametrize("profile", list(Profile))
async def test_a_key_with_another_body_is_refused(desk: Desk, profile: Profile) -> None:
    """A known key does not swallow another signal: 422, and nothing is executed."""
    facts = outgoing()
    app = desk.app(profile=profile)
    await post(app, facts)

    answer = await post(app, replace(facts, body=body_of("IBM")))

    assert answer.status_code == 422
    assert desk.orders() == 1


async def test_a_refusing_handler_leaves_nothing(desk: Desk) -> None:
    """Refused by the handler is 422 with its words; the effect is undone and the key is free."""
    desk.error = Refused("not tradable here", "instrument: is not on the list")
    facts = outgoing()
    app = desk.app()

    answer = await post(app, facts)
    desk.error = None

    assert answer.status_code == 422
    assert answer.json()["message"] == "not tradable here"
    assert answer.json()["errors"] == ["instrument: is not on the list"]
    assert desk.orders() == 0
    assert (await post(app, replace(facts, attempt=2))).status_code == 201


async def test_a_failing_handler_leaves_nothing_and_spills_nothing(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that fails is 500, undone, and its words reach neither answer nor log."""
    caplog.set_level("DEBUG")
    desk.error = ValueError("entry price 101.10 is too high")
    facts = outgoing()
    app = desk.app()

    answer = await post(app, facts)
    desk.error = None

    assert answer.status_code == 500
    assert "101.10" not in answer.text + caplog.text + repr(desk.seen)
    assert "ValueError" in desk.seen[-1].detail
    assert desk.orders() == 0
    assert (await post(app, replace(facts, attempt=2))).status_code == 201


async def test_time_spent_waiting_counts_against_the_expiry(desk: Desk) -> None:
    """A signal whose life ends while it waits for its turn is refused, not executed late."""
    desk.release.clear()
    app = desk.app()
    first = asyncio.create_task(post(app, outgoing()))
    await asyncio.to_thread(desk.entered.wait, 10)
    facts = outgoing(body=body_of("IBM"), expires_at=NOW + timedelta(seconds=5))
    second = asyncio.create_task(post(app, facts))
    await asyncio.sleep(0)
    desk.now = NOW + timedelta(seconds=6)
    desk.release.set()

    assert (await first).status_code == 201
    assert (await second).status_code == 422
    assert desk.orders() == 1


async def test_a_duplicate_past_its_expiry_is_still_a_duplicate(desk: Desk) -> None:
    """What was executed in time stays 200 for a late attempt, or it would be reported as dead."""
    facts = outgoing()
    app = desk.app()
    await post(app, facts)
    desk.now = NOW + timedelta(minutes=11)

    answer = await post(app, replace(facts, attempt=2, timestamp=desk.now))

    assert answer.status_code == 200


async def test_a_handler_that_ends_the_transaction_is_told_off(desk: Desk) -> None:
    """A handler that ends the transaction itself fails, but its key is kept with its effect."""

    def commits(connection: Any, received: Received) -> None:
        desk.handle(connection, received)
        connection.execute("COMMIT")

    facts = outgoing()
    app = desk.app(handler=commits)

    assert (await post(app, facts)).status_code == 500
    assert (await post(app, replace(facts, attempt=2))).status_code == 200
    assert (await post(app, outgoing())).status_code == 500
    assert desk.orders() == 2


async def test_another_process_with_the_same_delivery_is_asked_to_come_again(desk: Desk) -> None:
    """Of one delivery in two processes at once, one acts and the other says 503."""
    other = desk.open_book(busy_seconds=0.05)
    desk.release.clear()
    facts = outgoing()
    first = asyncio.create_task(post(desk.app(), facts))
    await asyncio.to_thread(desk.entered.wait, 10)

    second = await post(desk.app(book=other), replace(facts, attempt=2))
    desk.release.set()

    assert (second.status_code, second.headers["retry-after"]) == (503, "1")
    assert (await first).status_code == 201
    assert (await post(desk.app(book=other), replace(facts, attempt=3))).status_code == 200
    assert desk.orders() == 1
    other.close()


@pytest.mark.parametrize("profile", [Profile.RFC9421, Profile.CANONICAL])
async def test_processes_that_race_for_copies_act_once_for_each(
    desk: Desk, profile: Profile
) -> None:
    """Copies that reach three processes at once make one effect, under any mix of answers."""
    books = [desk.book, desk.open_book(), desk.open_book()]
    apps = [desk.app(book=book, profile=profile) for book in books]
    deliveries = [outgoing(body=body_of(f"X{number:02}")) for number in range(12)]
    copies = [
        # Where the key is not signed, a copy may come under another one.
        post(
            app, replace(facts, delivery_id=str(uuid4())) if profile is Profile.CANONICAL else facts
        )
        for facts in deliveries
        for app in apps
    ]

    answers = Counter(answer.status_code for answer in await asyncio.gather(*copies))

    assert answers[201] == desk.orders() == len(deliveries)
    assert set(answers) <= {200, 201, 503}
    for book in books[1:]:
        book.close()


async def test_a_lower_sequence_is_not_acted_on(desk: Desk) -> None:
    """What comes after a later signal of its ordering key is stale: 422, and nothing happens."""
    app = desk.app()
    await post(app, outgoing(sequence=5))

    older = await post(app, outgoing(sequence=4))
    equal = await post(app, outgoing(sequence=5))
    newer = await post(app, outgoing(sequence=6))

    assert (older.status_code, equal.status_code, newer.status_code) == (422, 422, 201)
    assert older.json()["errors"] == [
        "X-Signalpost-Sequence: 4 comes after 5 of the same ordering key, which has been acted on"
    ]
    assert [seen.verdict for seen in desk.seen[1:3]] == [Verdict.STALE] * 2
    assert desk.orders() == 2


async def test_a_predecessor_cannot_slip_in_beside_its_successor(desk: Desk) -> None:
    """While one of an ordering key is acted on, another process holds back all others of it."""
    other = desk.open_book(busy_seconds=0.05)
    desk.release.clear()
    successor = asyncio.create_task(post(desk.app(), outgoing(sequence=2)))
    await asyncio.to_thread(desk.entered.wait, 10)
    predecessor = outgoing(sequence=1)

    meanwhile = await post(desk.app(book=other), predecessor)
    desk.release.set()

    assert meanwhile.status_code == 503
    assert (await successor).status_code == 201
    assert (await post(desk.app(book=other), predecessor)).status_code == 422
    assert desk.orders() == 1
    other.close()


async def test_a_duplicate_of_an_older_one_is_a_duplicate(desk: Desk) -> None:
    """A late attempt of what has been acted on stays 200, however far its key has gone on."""
    app = desk.app()
    first = outgoing(sequence=1)
    await post(app, first)
    await post(app, outgoing(sequence=2))

    assert (await post(app, replace(first, attempt=2))).status_code == 200
    assert desk.orders() == 2


async def test_a_gap_is_told_to_the_handler(desk: Desk) -> None:
    """Missing numbers are no reason to refuse, a delivery may have died: the handler is told."""
    app = desk.app()
    for sequence in (3, 4, 7):
        assert (await post(app, outgoing(sequence=sequence))).status_code == 201
    await post(app, outgoing())

    assert [received.missed for received in desk.given] == [0, 0, 2, 0]


async def test_what_was_refused_leaves_a_gap(desk: Desk) -> None:
    """A refused signal does not move the sequence on: it was not acted on."""
    app = desk.app()
    await post(app, outgoing(sequence=1))
    desk.error = Refused("not now")
    await post(app, outgoing(sequence=2))
    desk.error = None
    await post(app, outgoing(sequence=3))

    assert [received.missed for received in desk.given] == [0, 0, 1]


async def test_ordering_keys_are_apart(desk: Desk) -> None:
    """One instrument's sequence says nothing of another's, nor one book's of another book's."""
    other = desk.open_book(name="other")
    await post(desk.app(), outgoing(sequence=9))

    instrument = await post(desk.app(), outgoing(sequence=1, body=body_of("IBM")))
    book = await post(desk.app(book=other), outgoing(sequence=1))
    own = await post(
        desk.app(ordering_key=lambda signal: signal.side),
        outgoing(sequence=8, body=body_of("MSFT")),
    )

    assert (instrument.status_code, book.status_code, own.status_code) == (201, 201, 201)
    other.close()


@pytest.mark.parametrize("profile", [Profile.STANDARD, Profile.CANONICAL])
async def test_an_unsigned_sequence_counts_for_nothing(desk: Desk, profile: Profile) -> None:
    """Where the profile does not cover the sequence, anybody could have written it."""
    app = desk.app(profile=profile)
    for sequence, instrument in ((2, "AAPL"), (1, "AAPL")):
        facts = outgoing(sequence=sequence, body=body_of(instrument, payload={"n": sequence}))
        assert (await post(app, facts)).status_code == 201

    assert [received.missed for received in desk.given] == [0, 0]


async def test_books_of_one_database_are_apart(desk: Desk) -> None:
    """Two endpoints may keep their books in one place: a name keeps their keys apart."""
    other = desk.open_book(name="other")
    facts = outgoing()

    answers = [await post(desk.app(book=book), facts) for book in (desk.book, other, other)]

    assert [answer.status_code for answer in answers] == [201, 201, 200]
    other.close()


async def test_keys_and_sequences_are_forgotten_after_their_time(desk: Desk) -> None:
    """Both are kept for keep_days after they were written, and are new ones afterwards."""
    book = desk.open_book(keep_days=40)
    facts = outgoing(expires_at=None, sequence=5)
    answers = []
    for days, again in ((0, facts), (39, facts), (39, replace(facts, delivery_id=str(uuid4())))):
        desk.now = NOW + timedelta(days=days)
        answers.append(await post(desk.app(book=book), replace(again, timestamp=desk.now)))
    desk.now = NOW + timedelta(days=41)
    answers.append(await post(desk.app(book=book), replace(facts, timestamp=desk.now)))
    book.close()

    assert [answer.status_code for answer in answers] == [201, 200, 422, 201]


async def test_a_book_outlives_its_process(desk: Desk) -> None:
    """What one process remembered, the next one knows."""
    facts = outgoing(sequence=2)
    await post(desk.app(), facts)
    desk.book.close()
    desk.book = desk.open_book()

    assert (await post(desk.app(), replace(facts, attempt=2))).status_code == 200
    assert (await post(desk.app(), outgoing(sequence=1))).status_code == 422


async def test_a_handler_that_swallows_an_error_keeps_nothing(postgres_desk: PostgresDesk) -> None:
    """A statement that failed spoils PostgreSQL's transaction, so that nothing is half done."""
    desk = postgres_desk

    def careless(connection: Any, received: Received) -> None:
        desk.handle(connection, received)
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("INSERT INTO nowhere VALUES (1)")

    facts = outgoing()

    assert (await post(desk.app(handler=careless), facts)).status_code == 500
    assert desk.orders() == 0
    assert (await post(desk.app(), replace(facts, attempt=2))).status_code == 201


async def test_psycopg_lets_no_handler_commit(postgres_desk: PostgresDesk) -> None:
    """The driver itself refuses a commit inside the book's transaction, and all is undone."""
    desk = postgres_desk

    def commits(connection: Any, received: Received) -> None:
        desk.handle(connection, received)
        connection.commit()

    assert (await post(desk.app(handler=commits), outgoing())).status_code == 500
    assert desk.orders() == 0


async def test_a_connection_that_was_ended_is_opened_anew(postgres_desk: PostgresDesk) -> None:
    """A restarted server, or a proxy that ends idle connections, costs no signal."""
    with psycopg.connect(postgres_desk.address, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'signalpost-receiver'"
            " AND datname = current_database()"
        )

    assert (await post(postgres_desk.app(), outgoing())).status_code == 201


async def test_a_database_that_is_away_is_503(postgres_desk: PostgresDesk) -> None:
    """While the book's database cannot be reached, the sender is asked to come again."""
    desk = postgres_desk
    admin, name = with_database(desk.address, "postgres"), desk.address.rsplit("/", 1)[1]
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    facts = outgoing()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        away = await post(desk.app(), facts)
        with pytest.raises(BookError, match="cannot be used"):
            PostgresBook(desk.address)
        connection.execute(allow.format(sql.Identifier(name), sql.SQL("true")))

    assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    assert desk.seen[-1].verdict is Verdict.UNAVAILABLE
    assert (await post(desk.app(), replace(facts, attempt=2))).status_code == 201


async def test_a_row_that_somebody_keeps_locked_holds_nothing_up_for_ever(
    postgres_desk: PostgresDesk,
) -> None:
    """A handler waits for another program's lock so long and no longer, and is tried again."""
    desk = postgres_desk
    book = desk.open_book(busy_seconds=0.05)
    facts = outgoing()
    with psycopg.connect(desk.address) as other:
        other.execute("LOCK TABLE orders")
        async with asyncio.timeout(3):
            held = await post(desk.app(book=book), facts)

    assert held.status_code == 500
    assert "LockNotAvailable" in desk.seen[-1].detail
    assert (await post(desk.app(book=book), replace(facts, attempt=2))).status_code == 201
    book.close()


async def test_a_lazy_server_still_commits_to_disk(postgres_desk: PostgresDesk) -> None:
    """Where a database commits asynchronously, the book does not: a 201 must outlive a crash."""
    desk = postgres_desk
    name = sql.Identifier(desk.address.rsplit("/", 1)[1])
    with psycopg.connect(desk.address, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
    asked = []

    def asks(connection: Any, received: Received) -> None:
        asked.append(connection.execute("SHOW synchronous_commit").fetchone())

    book = desk.open_book()
    await post(desk.app(book=book, handler=asks), outgoing())
    book.close()

    assert asked == [("on",)]


async def test_a_role_that_may_make_no_tables_uses_those_there_are(
    postgres_desk: PostgresDesk,
) -> None:
    """A receiver needs no right to make tables once they are there."""
    desk = postgres_desk
    role = f"desk_{uuid4().hex[:8]}"
    with psycopg.connect(desk.address, autocommit=True) as connection:
        for statement in (
            "CREATE ROLE {} LOGIN PASSWORD 'word'",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}",
        ):
            connection.execute(sql.SQL(statement).format(sql.Identifier(role)))
        server = desk.address.rsplit("@", 1)[1]
        book = PostgresBook(f"postgresql://{role}:word@{server}")

        answer = await post(desk.app(book=book), outgoing())

        book.close()
        for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
            connection.execute(sql.SQL(statement).format(sql.Identifier(role)))
    assert answer.status_code == 201


def test_an_address_that_is_none_is_not_quoted() -> None:
    """A malformed address is refused in words that hold no password."""
    with pytest.raises(ConfigurationError) as refused:
        PostgresBook("mysql://desk:word@host/db")

    assert "word" not in str(refused.value)


def test_processes_may_open_a_book_at_once(tmp_path: Path, postgres_server: str) -> None:
    """Several processes that make the same book at the same moment all get it."""

    async def open_many(opening: Callable[[], Book[Any]]) -> None:
        for book in await asyncio.gather(*(asyncio.to_thread(opening) for _ in range(6))):
            book.close()

    with cloned(postgres_server, "template1") as address:
        asyncio.run(open_many(lambda: SqliteBook(tmp_path / "book.sqlite")))
        asyncio.run(open_many(lambda: PostgresBook(address)))


def test_a_key_is_free_again_though_its_event_loop_is_gone(tmp_path: Path) -> None:
    """An effect that outlives the loop which asked for it leaves no key under way for ever."""
    book = SqliteBook(tmp_path / "book.sqlite")
    entry = Entry("k1", b"h", "s", NOW, "EURUSD")
    goes = threading.Event()

    def slow(_connection: object, _missed: int) -> Reply:
        goes.wait(10)
        return Reply()

    async def given_up() -> None:
        asked = asyncio.create_task(book.enter(entry, slow))
        await asyncio.sleep(0)
        asked.cancel()

    async def again() -> Mark:
        return (await book.enter(entry, slow)).mark

    asyncio.run(given_up())
    goes.set()
    wait_for(lambda: not book._under_way, 5, "the effect has ended")
    assert asyncio.run(again()) is Mark.DUPLICATE
    book.close()


def test_a_file_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    """A book whose file cannot be opened, or is no database, is one clear error."""
    (tmp_path / "text").write_text("no database " * 100)
    for place in (tmp_path / "nowhere" / "book.sqlite", tmp_path / "text"):
        with pytest.raises(BookError, match="cannot be used"):
            SqliteBook(place)
