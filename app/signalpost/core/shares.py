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

    @property
    def full(self) -> list[int]:
        """The endpoints that may not have more, but for exits."""
        return [one for one, own in self.flights.items() if not self._normal(own)]

    @property
    def full_high(self) -> list[int]:
        """The endpoints that may not have more exits either."""
        return [one for one, own in self.high_flights.items() if not share(self.free, own)]

    @property
    def together(self) -> int:
        """So many may be taken at once, even if all are of the same endpoint, whichever it is."""
        shares = [
            self._normal(own) or share(self.free, self.high_flights.get(one, 0))
            for one, own in self.flights.items()
        ]
        return min(filter(None, [*shares, self._normal(0) or share(self.free, 0)]), default=0)

    def _normal(self, own: int) -> int:
        return share(max(0, self.free - self.reserved), own)


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
            own = room.flights.get(one.endpoint_id, 0)
            own_high = room.high_flights.get(one.endpoint_id, 0)
            high = min(high, share(room.free, own_high))
            normal = min(normal, share(max(0, room.free - room.reserved), own))
        quota = Quota(
            one.endpoint_id, high if one.high else 0, normal if one.normal else 0, one.governed
        )
        if quota.high or quota.normal:
            quotas.append(quota)
    return quotas
