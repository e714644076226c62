"""One clock: database time carried on the monotonic clock, and the lease that hangs on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

RENEW_EVERY_SECONDS = 2.0
LEASE_SECONDS = 8.0
"""Without a renewal for this long a worker writes no first byte any more."""
SILENCE_SECONDS = 10.0
"""A worker that has not renewed for this long loses its claims; more than the lease, so that it
has stopped by itself before."""
CLOCK_TOLERANCE_SECONDS = 1.0
_NEVER = "the lease has never been renewed"


_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def steady_seconds() -> float:
    """Return seconds that go on while the machine is suspended, where the system has such a clock.

    A laptop that wakes up must see that its lease ran out, which Linux' CLOCK_MONOTONIC hides.
    """
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def wall_clock() -> datetime:
    """Return the machine's own idea of the time; it only stamps signatures."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks of a machine, as arguments."""

    steady: Callable[[], float] = steady_seconds
    wall: Callable[[], datetime] = wall_clock


class Lease:
    """What a worker knows of database time, and whether it may still send.

    Renewals are measured from the moment they were sent, so the lease never outlives what the
    database saw. ``epoch`` grows whenever the lease had lapsed: claims of an older epoch may have
    been taken back meanwhile, and must not write a first byte any more.
    """

    def __init__(self, clocks: Clocks | None = None) -> None:
        self._clocks = clocks or Clocks()
        self._renewed_at: float | None = None
        self._unbroken_since: float | None = None
        self._database_origin: datetime | None = None
        self._round_trip = 0.0
        self.epoch = 0

    def renewed(self, *, sent_at: float, database_now: datetime) -> None:
        """Take a renewal's answer.

        Args:
            sent_at: steady seconds when the renewal was sent.
            database_now: the database's time, read while it was carried out.
        """
        # Whether it had lapsed is asked now, not at the sending: a renewal that hung on the way was
        # carried out when others may have taken the claims back already.
        if not self.fresh:
            self.epoch += 1
            self._unbroken_since = sent_at
        self._renewed_at = sent_at
        # The answer is younger than `sent_at`, so this estimate runs ahead of the database by at
        # most the round trip: an expiry is never seen too late.
        origin = database_now - timedelta(seconds=sent_at)
        round_trip = self._clocks.steady() - sent_at
        if self._jumped(origin, round_trip):
            # By a new clock everybody looks silent who has not renewed since.
            self._unbroken_since = sent_at
        self._database_origin = origin
        self._round_trip = round_trip

    def _jumped(self, origin: datetime, round_trip: float) -> bool:
        if self._database_origin is None:
            return False
        moved = abs((origin - self._database_origin).total_seconds())
        return moved > round_trip + self._round_trip + CLOCK_TOLERANCE_SECONDS

    @property
    def steady(self) -> float:
        """Steady seconds now."""
        return self._clocks.steady()

    def now(self) -> datetime:
        """Return database time now, never behind it by more than clock drift between renewals."""
        if self._database_origin is None:
            raise RuntimeError(_NEVER)
        return self._database_origin + timedelta(seconds=self._clocks.steady())

    def wall(self) -> datetime:
        """Return the wall clock's time, for signatures only."""
        return self._clocks.wall()

    @property
    def fresh(self) -> bool:
        """Whether a first byte may be written."""
        return (
            self._renewed_at is not None
            and self._clocks.steady() - self._renewed_at < LEASE_SECONDS
        )

    @property
    def renewed_seconds_ago(self) -> float | None:
        """Seconds since the last renewal that was answered had been sent; None before the first."""
        return None if self._renewed_at is None else self._clocks.steady() - self._renewed_at

    @property
    def clock_off_seconds(self) -> float:
        """By how much the wall clock is off the database's at least, now; 0 before a renewal.

        Asked for each request: a clock that is set between two renewals stamps no signature.
        """
        if self._database_origin is None:
            return 0.0
        ahead = self._seconds_to(self._clocks.wall(), self._database_origin)
        return max(ahead, -ahead - self._round_trip, 0.0)

    @property
    def clock_ok(self) -> bool:
        """Whether the wall clock is near enough to the database's to stamp signatures."""
        return self.clock_off_seconds <= CLOCK_TOLERANCE_SECONDS

    @property
    def may_take_back(self) -> bool:
        """Whether this worker has renewed for long enough to judge others silent.

        A database that was away silences everybody; so nobody judges right after it is back.
        """
        return (
            self.fresh
            and self._unbroken_since is not None
            and self._clocks.steady() - self._unbroken_since >= SILENCE_SECONDS
        )

    def life_seconds(self, expires_at: datetime | None) -> float | None:
        """Return what is left of a life, in seconds; None for one that never ends."""
        if expires_at is None:
            return None
        if self._database_origin is None:
            raise RuntimeError(_NEVER)
        return self._seconds_to(expires_at, self._database_origin)

    def _seconds_to(self, moment: datetime, origin: datetime) -> float:
        # Not by way of `now()`: a moment made only to be taken away again is dear, and this is
        # asked four times for each request.
        return (moment - origin).total_seconds() - self._clocks.steady()
