from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from signalpost.core.shares import Quota, Room, Waiting, allot, share


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
        most = room.together
        assert most <= room.free
        if not most:
            break
        group, asked = asked[:most], asked[most:]
        full, full_high = room.full, room.full_high
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
