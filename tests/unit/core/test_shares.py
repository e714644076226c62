from __future__ import annotations

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
