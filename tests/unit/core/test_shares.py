from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from signalpost.core.shares import Kept, Quota, Room, Waiting, allot, share


def test_alone_an_endpoint_gets_two_thirds_and_others_always_find_places() -> None:
    """What one may hold depends on what it leaves free."""
    assert share(90, 0) == 60
    assert share(30, 60) == 0
    assert share(30, 0) == 20
    assert share(1, 0) == 1
    assert share(0, 0) == 0


@given(st.integers(1, 500), st.lists(st.integers(0, 9), max_size=200))
def test_no_endpoint_ever_holds_more_than_twice_what_is_free(size: int, turns: list[int]) -> None:
    """However endpoints take turns, after each turn the taker has left half of its own free."""
    held: dict[int, int] = {}
    for one in turns:
        free = size - sum(held.values())
        own = held.get(one, 0)
        taken = share(free, own)
        assert 0 <= taken <= free
        held[one] = own + taken
        if taken > 1:
            assert held[one] <= 2 * (free - taken) + 2


def test_a_claim_is_shared_out_with_the_exit_lane_in_its_reserved_places() -> None:
    """With only reserved places left a normal delivery gets none, an exit does."""
    room = Room(free=5, reserved=5, flights={1: 50})
    waiting = [Waiting(1, high=True, normal=True)]
    assert allot(waiting, limit=5, room=room) == [Quota(1, high=3, normal=0, governed=False)]
    assert allot([Waiting(2, high=False, normal=True)], limit=5, room=room) == []
    assert allot(waiting, limit=7, room=None) == [Quota(1, high=7, normal=7, governed=False)]


@given(
    st.integers(min_value=1, max_value=80),
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200),
)
def test_what_is_taken_together_unseen_exceeds_no_share(
    size: int, asked: list[tuple[int, bool]]
) -> None:
    """Groups of unknown endpoints, each as large as is safe, leave everybody within its share."""
    flights: Counter[int] = Counter()
    high: Counter[int] = Counter()
    while asked:
        room = Room(size - flights.total(), size // 8, flights, high)
        if not room.free:
            break
        together = room.together(len(asked))
        assert 0 < together.most <= min(room.free, len(asked))
        group, asked = asked[: together.most], asked[together.most :]
        full, full_high = together.full, together.full_high
        took = [
            (endpoint_id, is_high)
            for endpoint_id, is_high in group
            if endpoint_id not in (full_high if is_high else full)
            and (is_high or not room.high_only)
        ]
        for endpoint_id, is_high in took:
            flights[endpoint_id] += 1
            high[endpoint_id] += is_high
        for (endpoint_id, is_high), count in Counter(took).items():
            own = high[endpoint_id] if is_high else flights[endpoint_id] - high[endpoint_id]
            assert own <= max(1, 2 * (room.free - count))


def test_an_endpoint_near_its_share_does_not_cut_the_groups_of_others() -> None:
    """In a group it counts as full; asked for alone it gets the last of its places."""
    room = Room(free=81, reserved=20, flights={1: 119}, high_flights={})
    assert room.normal(1) == 1
    together = room.together(16)
    assert (together.most, together.full, together.full_high) == (16, [1], [])
    alone = room.together(1)
    assert (alone.most, alone.full) == (1, [])


def test_what_was_kept_back_fits_once_its_endpoint_has_room_in_that_lane() -> None:
    """An end elsewhere makes no room for it; one of its own does."""
    kept = Kept(normal=frozenset({1}))
    assert not kept.fits(Room(free=80, reserved=20, flights={1: 120}))
    assert kept.fits(Room(free=81, reserved=20, flights={1: 119}))
    full = Room(free=20, reserved=20, flights={1: 180})
    assert not kept.fits(full)
    assert Kept(high=frozenset({1})).fits(full)
    assert not Kept().fits(Room(free=200))
    assert (kept | Kept(high=frozenset({2}))) == Kept(frozenset({2}), frozenset({1}))


def test_a_place_or_two_of_many_are_in_no_hurry_but_an_exit_is() -> None:
    """What a look costs the others counts for more where an endpoint has many places anyway."""
    kept = Kept(normal=frozenset({1}))
    many = {1: 118}
    assert not kept.hurries(Room(free=80, reserved=20, flights={1: 120}))
    assert kept.fits(Room(free=82, reserved=20, flights=many))
    assert not kept.hurries(Room(free=82, reserved=20, flights=many))
    assert kept.hurries(Room(free=86, reserved=20, flights={1: 114}))
    assert kept.hurries(Room(free=7, reserved=0, flights={1: 7})), "one of a few is much"
    assert Kept(high=frozenset({1})).hurries(Room(free=82, reserved=20, flights=many))
