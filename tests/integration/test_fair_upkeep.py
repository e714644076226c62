"""Placing and expiry where much waits behind something that somebody holds: nobody else waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Engine, text

from signalpost.repository import (
    expiring,
    keys,
    placing,
)
from tests import rows
from tests.integration.test_order import LIFE, put

AT_ONCE = 3
MORTAL = replace(LIFE, ttl_seconds=5)


def test_what_is_new_behind_many_of_a_held_key_is_placed_all_the_same(engine: Engine) -> None:
    """More new deliveries of a key that a transaction holds than one look takes hide no other."""
    with engine.begin() as connection:
        desk = rows.add_endpoint(connection, name="desk", ordered=True)
        put(connection, "HELD")
        placing.place_new(connection, limit=AT_ONCE)
        for _ in range(2 * AT_ONCE):
            put(connection, "HELD")
        others = {put(connection, instrument)[0] for instrument in ("MSFT", "IBM")}
    with engine.begin() as holder, engine.begin() as placer:
        keys.lock_keys(holder, {(desk, "HELD")})
        placed = placing.place_new(placer, limit=AT_ONCE)
        assert set(placed.heads) == others
        assert placed.left
    with engine.begin() as connection:
        while placing.place_new(connection, limit=AT_ONCE).left:
            pass
        statement = "SELECT count(*) FROM signalpost.deliveries WHERE held = 'behind'"
        assert connection.execute(text(statement)).scalar_one() == 2 * AT_ONCE


def test_what_is_over_behind_many_of_a_held_key_is_ended_all_the_same(engine: Engine) -> None:
    """More expired deliveries of a held key than one look takes hide no others, ordered or not."""
    with engine.begin() as connection:
        desk = rows.add_endpoint(connection, name="desk", ordered=True)
        for _ in range(2 * AT_ONCE):
            put(connection, "HELD", life=MORTAL)
        rows.add_endpoint(connection, name="floor", instruments=["FREE"])
        others = {one for key in ("MSFT", "IBM", "FREE") for one in put(connection, key, MORTAL)}
        while placing.place_new(connection, limit=AT_ONCE).left:
            pass
    with engine.begin() as holder, engine.begin() as sweeper:
        later = rows.database_now(sweeper) + timedelta(seconds=6)
        keys.lock_keys(holder, {(desk, "HELD")})
        ended = expiring.expire_pending(sweeper, limit=AT_ONCE, now=later)
        ended += expiring.expire_pending(sweeper, limit=AT_ONCE, now=later)
        assert {one.delivery_id for one in ended} == others
    with engine.begin() as connection:
        ended = []
        while found := expiring.expire_pending(connection, limit=AT_ONCE, now=later):
            ended += found
        assert len(ended) == 2 * AT_ONCE


def test_what_is_over_behind_many_held_rows_is_ended_all_the_same(engine: Engine) -> None:
    """More expired rows than one look takes are passed while claims look at them, heads too."""
    with engine.begin() as connection:
        past = rows.database_now(connection) - timedelta(seconds=1)
        plain = rows.add_endpoint(connection, name="plain")
        desk = rows.add_endpoint(connection, name="desk", ordered=True)
        keys = [f"K{number}" for number in range(5)]
        connection.execute(
            text("INSERT INTO signalpost.orderings SELECT :id, unnest(CAST(:keys AS text[]))"),
            {"id": desk, "keys": keys},
        )
        held = [
            rows.add_delivery(connection, expires_at=past, endpoint_id=endpoint_id, **policy)
            for key in keys[:4]
            for endpoint_id, policy in (
                (plain, {}),
                (desk, {"ordered": True, "ordering_key": key}),
            )
        ]
        just = past + timedelta(milliseconds=1)
        others = {
            rows.add_delivery(connection, endpoint_id=plain, expires_at=just),
            rows.add_delivery(
                connection, endpoint_id=desk, ordered=True, ordering_key="K4", expires_at=just
            ),
        }
    lock = text("SELECT FROM signalpost.deliveries WHERE id = ANY(:held) FOR UPDATE")
    with engine.begin() as holder, engine.begin() as sweeper:
        holder.execute(lock, {"held": held})
        ended = expiring.expire_pending(sweeper, limit=AT_ONCE)
        assert {one.delivery_id for one in ended} == others
