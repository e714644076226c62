from __future__ import annotations

import time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, insert, select, text

from signalpost.core.signing import Profile, verify
from signalpost.models import AuditRow, EndpointRow
from signalpost.repository.endpoint_changes import change_endpoint
from signalpost.repository.endpoints import NewEndpoint, add_endpoint
from signalpost.repository.enqueueing import Life, NewSignal, enqueue
from signalpost.repository.reading import database_time
from signalpost.secretbox import seal
from signalpost.settings import Settings
from tests import receivers, rows
from tests.engines import BOX, LOOPBACK, SEALED, SECRET, engine_rig

TOKEN = "open-sesame-of-a-gateway"
SETTINGS = Settings(database_url="postgresql://unused", outbound_allow_networks=(LOOPBACK,))
LIFE = Life(default_ttl_seconds=600)


def put(engine: Engine, key: str, **labels: Any) -> list[str]:
    """Enqueue a signal to all that take it; the names of the endpoints that do."""
    with engine.begin() as conn:
        signal = new_signal(key, **labels)
        [stored] = enqueue(conn, "tests", [signal], life=LIFE)
    return [delivery.endpoint for delivery in stored.deliveries]


def new_signal(key: str, **labels: Any) -> NewSignal:
    values: dict[str, Any] = {
        "id": UUID(int=int.from_bytes(key.encode())),
        "key": key,
        "body": b"{}",
        "instrument": "AAPL",
        "side": "buy",
        "action": "open",
        "expires_at": None,
        "confidence": None,
        **labels,
    }
    return NewSignal(**values)


async def test_extra_headers_are_sent_and_forge_nothing(database_url: str, engine: Engine) -> None:
    """They arrive as they were set; a row that somebody wrote by hand overrides none of ours."""
    forged = {"x-signature": "forged", "X-IDEMPOTENCY-KEY": "forged", "Webhook-Id": "forged"}
    async with receivers.receiver() as there, engine_rig(database_url) as rig:
        with engine.begin() as conn:
            desk = rows.add_endpoint(
                conn,
                url=there.url,
                secret_ciphertext=SEALED,
                headers=seal({**forged, "X-Api-Key": TOKEN}, BOX),
            )
            delivery_id = rows.add_delivery(conn, endpoint_id=desk)
            now = database_time(conn)
        report = await rig.engine.deliver(delivery_id)
    [seen] = there.seen

    assert report.outcome == "delivered"
    assert seen.headers["X-Api-Key"] == TOKEN
    assert "forged" not in seen.headers.values()
    assert seen.delivery_id == str(delivery_id)
    for profile in Profile:
        verify(
            method="POST",
            headers=seen.headers,
            body=seen.body,
            url=there.url,
            secrets=[SECRET],
            profile=profile,
            now=now,
        )


async def test_a_header_that_cannot_be_read_costs_no_attempt(
    database_url: str, engine: Engine
) -> None:
    """With a key that does not fit, the delivery waits as one with an unreadable secret does."""
    async with receivers.receiver() as there, engine_rig(database_url) as rig:
        with engine.begin() as conn:
            desk = rows.add_endpoint(
                conn, url=there.url, secret_ciphertext=SEALED, headers={"X-Api-Key": "no token"}
            )
            delivery_id = rows.add_delivery(conn, endpoint_id=desk)
        await rig.engine.deliver(delivery_id)
        with engine.begin() as conn:
            row = rows.delivery(conn, delivery_id)

    assert (row["status"], row["spent"], there.seen) == ("pending", 0, [])


async def test_a_change_counts_within_two_seconds_without_a_restart(
    database_url: str, engine: Engine
) -> None:
    """A new URL, a new header and a filter hold for a running engine's next delivery."""
    async with (
        receivers.receiver() as before,
        receivers.receiver() as after,
        engine_rig(database_url) as rig,
    ):
        with engine.begin() as conn:
            add_endpoint(conn, NewEndpoint("desk", before.url, SECRET), SETTINGS, BOX, actor="me")
        put(engine, "one")
        await rig.engine.drain()
        await before.wait_for(1)
        with engine.begin() as conn:
            change_endpoint(
                conn,
                "desk",
                {"url": after.url, "instruments": ["EUR*"], "min_confidence": Decimal("0.5")},
                SETTINGS,
                box=BOX,
                headers={"X-Api-Key": TOKEN},
                actor="me",
                why="moved",
            )
        began = time.monotonic()
        taken = [
            put(engine, "two", instrument="EURUSD", confidence=Decimal("0.5")),
            put(engine, "three", instrument="AAPL", confidence=Decimal(1)),
            put(engine, "four", instrument="EURUSD", confidence=Decimal("0.49")),
        ]
        await rig.engine.drain()
        await after.wait_for(1)
        took = time.monotonic() - began

    assert taken == [["desk"], [], []]
    assert took < 2
    assert after.seen[0].headers["X-Api-Key"] == TOKEN
    assert "X-Api-Key" not in before.seen[0].headers
    with engine.begin() as conn:
        entry = conn.execute(
            select(AuditRow.__table__).where(AuditRow.action == "endpoint changed")
        ).one()
    assert (entry.actor, entry.why) == ("me", "moved")
    assert (entry.before["instruments"], entry.after["instruments"]) == (None, ["EUR*"])
    assert (entry.before["headers"], list(entry.after["headers"])) == ({}, ["X-Api-Key"])
    assert TOKEN not in str(entry)


@pytest.mark.parametrize(
    ("policy", "passes", "held_back"),
    [
        ({"instruments": ["EUR*", "?AU"]}, {"instrument": "XAU"}, {"instrument": "XXAU"}),
        ({"instruments": ["A_B"]}, {"instrument": "A_B"}, {"instrument": "AXB"}),
        ({"sides": ["sell"]}, {"side": "sell"}, {"side": "buy"}),
        ({"actions": ["close"]}, {"action": "close"}, {"action": "open"}),
        ({"producers": ["tests"]}, {}, None),
        ({"producers": ["other"]}, None, {}),
        (
            {"min_confidence": Decimal("0.70")},
            {"confidence": Decimal("0.7")},
            {"confidence": Decimal("0.69")},
        ),
    ],
)
def test_a_filter_takes_what_fits(
    engine: Engine,
    policy: dict[str, Any],
    passes: dict[str, Any] | None,
    held_back: dict[str, Any] | None,
) -> None:
    """Each kind of filter, as it is set, lets through what fits and nothing else."""
    with engine.begin() as conn:
        new = NewEndpoint("desk", "http://127.0.0.1:9/in", SECRET, **policy)
        add_endpoint(conn, new, SETTINGS, BOX, actor="me")

    if passes is not None:
        assert put(engine, "fits", **passes) == ["desk"]
    if held_back is not None:
        assert put(engine, "not", **held_back) == []


def test_a_thousand_endpoints_are_one_transaction(engine: Engine) -> None:
    """One signal to 1,000 endpoints is written at once, well within a second."""
    with engine.begin() as conn:
        conn.execute(
            insert(EndpointRow),
            [
                {"name": f"desk{n}", "url": "http://127.0.0.1:9/in", "secret_ciphertext": b"sealed"}
                for n in range(1000)
            ],
        )
    began = time.monotonic()
    with engine.begin() as conn:
        [stored] = enqueue(conn, "tests", [new_signal("many")], life=LIFE)
        writers = conn.scalar(text("SELECT count(DISTINCT xmin::text) FROM signalpost.deliveries"))
    took = time.monotonic() - began
    print(f"1,000 deliveries of one signal: {took * 1000:.0f} ms")  # noqa: T201 - its figure

    assert (len(stored.deliveries), writers) == (1000, 1)
    assert took < 2


async def test_a_retry_schedule_is_kept_wait_by_wait(database_url: str, engine: Engine) -> None:
    """Each retry waits as the list says, and after the last one the delivery is dead."""
    async with receivers.receiver(receivers.status(503)) as there, engine_rig(database_url) as rig:
        with engine.begin() as conn:
            desk = rows.add_endpoint(
                conn,
                url=there.url,
                secret_ciphertext=SEALED,
                retry_schedule_seconds=[0.4, 0.05, 0.2],
            )
            delivery_id = rows.add_delivery(conn, endpoint_id=desk)
        due = text("UPDATE signalpost.deliveries SET next_attempt_at = now()")
        reports = []
        for _ in range(4):
            with engine.begin() as conn:
                conn.execute(due)
            reports.append(await rig.engine.deliver(delivery_id))
    waits = [report.retry_in_seconds for report in reports]
    assert waits == [pytest.approx(0.4), pytest.approx(0.05), pytest.approx(0.2), None]
    assert (reports[-1].status, len(there.seen)) == ("dead", 4)
