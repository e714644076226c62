"""A strategy that enqueues at a steady rate in every form of the API, and keeps a journal (fsync).

What a line of the journal claims is what the strategy knows: `call` before a signal is handed over,
`enqueued` once the call has returned, `unknown`, `refused` and `rolled_back` otherwise. A strategy
that was killed is started again with the same journal, and enqueues what it had called for and not
seen enqueued, as a real one would. Started as
`python -m tests.chaos.strategy FOLDER NAME SEED RATE SECONDS`, addresses in the environment.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from signalpost import EnqueueError, EnqueueUnknown, Producer, Signal

INSTRUMENTS = [f"INST{number}" for number in range(12)]
MANY = 8
CALL_SECONDS = 2.0
OPENING = datetime(2026, 1, 5, tzinfo=UTC)


class Journal:
    """Append-only; a line is on disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self.lines: list[dict[str, Any]] = []
        if path.exists():
            # A line that was cut by the kill was not yet known to anybody.
            text = path.read_text().rpartition("\n")[0]
            self.lines = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if self.lines:
            os.write(self._file, b"\n")

    def write(self, op: str, **facts: Any) -> None:
        """One line, with the time."""
        line = json.dumps({"at": time.time(), "op": op, **facts}, default=str)
        os.write(self._file, line.encode() + b"\n")
        os.fdatasync(self._file)


class Strategy:
    """Makes signals from a number, so that the same number is the same signal after a restart."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        self._journal = Journal(folder / f"journal-{name}.jsonl")
        self._name, self._seed = name, seed
        self.producer = Producer(producer_id=name)
        url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
        self._own = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 2})
        self._loop = asyncio.new_event_loop()

    @property
    def next_number(self) -> int:
        """The first number that was never called for."""
        called = [n for line in self._journal.lines if line["op"] == "call" for n in line["n"]]
        return max(called, default=-1) + 1

    def left_over(self) -> dict[int, dict[str, Any]]:
        """What a killed run had called for and never saw the end of, with the call's line."""
        open_numbers: dict[int, dict[str, Any]] = {}
        for line in self._journal.lines:
            for number in line["n"]:
                if line["op"] == "call":
                    open_numbers[number] = line
                elif line["op"] != "unknown":
                    open_numbers.pop(number, None)
        return dict(sorted(open_numbers.items()))

    def signal(self, number: int) -> Signal:
        """The signal of this number."""
        chance = random.Random(f"{self._seed}:{self._name}:{number}")
        return Signal(
            instrument=chance.choice(INSTRUMENTS),
            side="buy",
            entry_price=f"{100 + chance.random():.4f}",
            stop_loss="90",
            take_profit="150.10",
            confidence="0.5",
            reason="chaos",
            timestamp=OPENING + timedelta(seconds=number),
            payload={"n": number},
        )

    def enqueue(self, number: int) -> None:
        """Hand one signal over, or a few, in a form that its number decides."""
        chance = random.Random(f"{self._seed}:{self._name}:form:{number}")
        form = chance.choices(["sync", "async", "own", "undone", "many"], [5, 3, 3, 1, 1])[0]
        count = MANY if form == "many" else 1
        ttl = chance.choice([600.0, 600.0, 600.0, 20.0, 5.0, None])
        numbers = [number * MANY + offset for offset in range(count)]
        way = self.way(number)
        if form == "many":
            way.pop("supersede_key", None)
        signals = {n: self.signal(n) for n in numbers}
        bodies = {n: s.identified(self._name).body() for n, s in signals.items()}
        self._journal.write(
            "call",
            n=numbers,
            form=form,
            ttl=ttl,
            way=way,
            keys=[way.get("ordering_key") or signal.instrument for signal in signals.values()],
            signals=[json.loads(body)["id"] for body in bodies.values()],
            sha256=[hashlib.sha256(body).hexdigest() for body in bodies.values()],
        )
        self._hand_over(form, list(signals.values()), ttl, numbers, way)

    def way(self, number: int) -> dict[str, str]:
        """Exits, keys of order beside the instrument, and signals that replace earlier ones."""
        chance = random.Random(f"{self._seed}:{self._name}:way:{number}")
        way: dict[str, str] = {}
        if chance.random() < 0.15:
            way["priority"] = "high"
        if chance.random() < 0.25:
            way["ordering_key"] = f"pair-{chance.randrange(3)}"
        if chance.random() < 0.15:
            way["supersede_key"] = f"quote-{chance.randrange(4)}"
        return way

    def again(self, line: dict[str, Any], number: int) -> None:
        """Enqueue what a killed run may or may not have enqueued."""
        self._journal.write("unknown", n=[number])
        self._hand_over("sync", [self.signal(number)], 600.0, [number], line["way"])

    def _hand_over(
        self,
        form: str,
        signals: list[Signal],
        ttl: float | None,
        numbers: list[int],
        way: dict[str, str],
    ) -> None:
        for _ in range(40):
            try:
                taken = self._taken(form, signals, ttl, way)
            except EnqueueUnknown:
                self._journal.write("unknown", n=numbers)
            except EnqueueError as error:
                self._journal.write("refused", n=numbers, error=type(error).__name__)
                return
            except Exception as error:  # noqa: BLE001 - the own transaction's driver raises its own
                # Whether an own COMMIT arrived cannot be told: ask by enqueueing again.
                self._journal.write("unknown", n=numbers, error=type(error).__name__)
                form = "sync"
            else:
                deliveries = [
                    {one.endpoint: str(one.delivery_id) for one in each.deliveries}
                    for each in taken
                ]
                op = "rolled_back" if form == "undone" else "enqueued"
                self._journal.write(
                    op,
                    n=numbers,
                    signals=[str(each.signal_id) for each in taken],
                    deliveries=deliveries,
                    announced=all(each.announced for each in taken),
                )
                return
            time.sleep(0.5)
        self._journal.write("left", n=numbers)

    def _taken(
        self, form: str, signals: list[Signal], ttl: float | None, way: dict[str, Any]
    ) -> list[Any]:
        if form == "many":
            return self.producer.enqueue_many(signals, ttl=ttl, timeout=CALL_SECONDS, **way)
        signal = signals[0]
        if form == "async":
            coroutine = self.producer.enqueue_async(signal, ttl=ttl, timeout=CALL_SECONDS, **way)
            return [self._loop.run_until_complete(coroutine)]
        if form in ("own", "undone"):
            with Session(self._own) as session:
                taken = self.producer.enqueue_in(session, signal, ttl=ttl, **way)
                if form == "own":
                    session.commit()
                else:
                    session.rollback()
            return [taken]
        return [self.producer.enqueue(signal, ttl=ttl, timeout=CALL_SECONDS, **way)]


def main(folder: Path, name: str, seed: int, rate: float, seconds: float) -> None:
    """Enqueue at `rate` calls a second for `seconds`, first what was left over."""
    strategy = Strategy(folder, name, seed)
    for number, line in strategy.left_over().items():
        strategy.again(line, number)
    begin = time.monotonic()
    number = -(-strategy.next_number // MANY)
    calls = 0
    while (elapsed := time.monotonic() - begin) < seconds:
        if calls / rate > elapsed:
            time.sleep(calls / rate - elapsed)
        strategy.enqueue(number)
        number += 1
        # A call that hung is not caught up on in a burst.
        calls = max(calls + 1, int((time.monotonic() - begin) * rate))
    strategy.producer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
