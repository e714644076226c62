"""Who may claim how much: a process's places, shared out between endpoints that have work.

Pure. No endpoint can take them all: what one may hold depends on what is left free, so that those
who come later always find places, however many slow ones there are (a dynamic threshold: alone, an
endpoint gets two thirds of the places; n slow ones leave one in 1 + 2n free).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

LEAST_AT_ONCE = 4
"""What one claim takes of an endpoint at least, if it may: less would cost more claims."""
FEW_PART = 8
"""Fewer places than one in so many of those that an endpoint has are not worth a look at once."""


@dataclass(frozen=True, slots=True)
class Room:
    """A process's places: how many are free, and who has the others.

    ``reserved`` of the free ones are for the exit lane only. ``flights`` and ``high_flights``
    count the attempts under way by endpoint, the latter only those of the exit lane.
    """

    free: int
    reserved: int = 0
    flights: Mapping[int, int] = field(default_factory=dict)
    high_flights: Mapping[int, int] = field(default_factory=dict)

    @property
    def high_only(self) -> bool:
        """Whether nothing is left but what the exit lane may have."""
        return self.free <= self.reserved

    def normal(self, endpoint_id: int) -> int:
        """So many more an endpoint may have outside the exit lane."""
        return share(max(0, self.free - self.reserved), self.flights.get(endpoint_id, 0))

    def high(self, endpoint_id: int) -> int:
        """So many more exits an endpoint may have."""
        return share(self.free, self.high_flights.get(endpoint_id, 0))

    def together(self, asked: int) -> Together:
        """How many of ``asked`` deliveries may be taken at once, whosever they are."""
        # An endpoint with a place or two left would cut every group down to its own size; in a
        # group it counts as full, and what is due there is looked for within its exact share.
        least = max(1, min(asked, LEAST_AT_ONCE))
        full = [one for one in self.flights if self.normal(one) < least]
        full_high = [one for one in self.high_flights if self.high(one) < least]
        places = [self.normal(one) for one in self.flights.keys() - set(full)]
        places += [self.high(one) for one in set(full) - set(full_high)]
        # And those that hold none so far.
        places.append(share(max(0, self.free - self.reserved), 0) or share(self.free, 0))
        return Together(min(asked, *places), full, full_high)


@dataclass(frozen=True, slots=True)
class Together:
    """``most``: so many may be taken at once, even if all are of the same endpoint.

    Except of those that are ``full``, which get none but exits, and ``full_high``, no exits either.
    """

    most: int
    full: list[int]
    full_high: list[int]


@dataclass(frozen=True, slots=True)
class Kept:
    """The endpoints of which a claim left something due for want of room, by lane.

    ``governed``: those of which it may have left something for a limit of their own.
    """

    high: frozenset[int] = frozenset()
    normal: frozenset[int] = frozenset()
    governed: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.high or self.normal)

    def __or__(self, other: Kept) -> Kept:
        return Kept(
            self.high | other.high, self.normal | other.normal, self.governed | other.governed
        )

    def fits(self, room: Room) -> bool:
        """Whether one of them may have a place now."""
        return any(map(room.high, self.high)) or any(map(room.normal, self.normal))

    def hurries(self, room: Room) -> bool:
        """Whether it is worth a look at once: for exits always, else for more than a few places.

        Beside an endpoint that has its share all the time, as a slow one has, a look for every
        single place that comes free costs the others more than that one gains.
        """
        return any(map(room.high, self.high)) or any(
            room.normal(one) >= max(1, min(LEAST_AT_ONCE, room.flights.get(one, 0) // FEW_PART))
            for one in self.normal
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """An endpoint with something due, in the exit lane (``high``), in the other, or in both.

    ``governed``: it has a limit, or its breaker is not simply closed, so that its own row was
    locked for this claim.
    """

    endpoint_id: int
    high: bool
    normal: bool
    governed: bool = False


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a claim may take of an endpoint, by lane."""

    endpoint_id: int
    high: int
    normal: int
    governed: bool


def share(free: int, own: int) -> int:
    """Return how many places more an endpoint may take that holds ``own`` of them already.

    It may hold twice what it leaves free. One that holds none gets a place if there is any.
    """
    if own == 0 and free > 0:
        return max(1, 2 * free // 3)
    return max(0, (2 * free - own) // 3)


def allot(waiting: Sequence[Waiting], *, limit: int, room: Room | None) -> list[Quota]:
    """Share one claim out between the endpoints that have something due.

    Args:
        waiting: the least loaded first; the quotas keep this order, and a claim that is full
            before its end leaves the rest to the next one.
        limit: what one claim takes at most.
        room: the process's places; None takes the limit alone.
    """
    if not waiting:
        return []
    each = max(LEAST_AT_ONCE, 2 * -(-limit // len(waiting)))
    quotas = []
    for one in waiting:
        high = normal = min(each, limit)
        if room is not None:
            high = min(high, room.high(one.endpoint_id))
            normal = min(normal, room.normal(one.endpoint_id))
        quota = Quota(
            one.endpoint_id, high if one.high else 0, normal if one.normal else 0, one.governed
        )
        if quota.high or quota.normal:
            quotas.append(quota)
    return quotas
