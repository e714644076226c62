"""A run: faults are done and healed in time, progress is told, and the rest is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg

from tests.chaos.faults import begin
from tests.chaos.plan import Fault
from tests.chaos.stage import Stage

TELL_EVERY = 15.0
OPEN = "SELECT count(*) FROM signalpost.deliveries WHERE status IN ('pending', 'sending')"
UNSENT = "SELECT count(*) FROM signalpost.alerts WHERE sent_at IS NULL"


class Run:
    """Carries a schedule out on a stage; `begun` is its time zero, in Unix seconds."""

    def __init__(
        self, stage: Stage, faults: list[Fault], drain_seconds: float, say: Callable[[str], None]
    ) -> None:
        self._stage, self._faults, self._say = stage, faults, say
        self._drain_seconds = drain_seconds
        self._told = 0.0
        self.begun = time.time()

    def go(self, until: float) -> None:
        """Return `until` seconds after the beginning, at the earliest; all is healed then."""
        acts = [(f.at, 0, f) for f in self._faults] + [(f.end, 1, f) for f in self._faults]
        heals: dict[int, Callable[[], object]] = {}
        for at, healing, fault in sorted(acts, key=lambda act: act[:2]):
            self._wait(at)
            if healing:
                heals.pop(fault.number)()
                if fault.seconds:
                    self._say(f"{fault.kind} is over")
            else:
                self._say(f"{fault.kind}" + (f" for {fault.seconds:g} s" * bool(fault.seconds)))
                heals[fault.number] = begin(fault.kind, self._stage)
        self._wait(until)

    def drain(self) -> bool:
        """Wait, at most so long, until every delivery has ended and every alert is sent."""
        end = time.time() + self._drain_seconds
        while time.time() < end:
            if self._count(OPEN) == 0 and self._count(UNSENT) == 0:
                return True
            self._tell()
            time.sleep(0.5)
        return False

    def _wait(self, at: float) -> None:
        while (left := self.begun + at - time.time()) > 0:
            time.sleep(min(left, 1.0))
            self._tell()

    def _tell(self) -> None:
        if time.time() - self._told < TELL_EVERY:
            return
        self._told = time.time()
        still = self._count(OPEN)
        rest = "the database is away" if still < 0 else f"{still} deliveries are open"
        done = sum(self.begun + fault.at <= time.time() for fault in self._faults)
        self._say(f"    fault {done} of {len(self._faults)}; {rest}")

    def _count(self, question: str) -> int:
        """The answer; -1 of a database that is away."""
        try:
            with self._stage.admin() as connection:
                row = connection.execute(question.encode()).fetchone()
                return -1 if row is None else int(row[0])
        except (OSError, psycopg.Error):
            return -1
