"""Chaos: `python -m tests.chaos --minutes 5 --seed 7`. Exit 1 on any finding."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.chaos.faults import begin
from tests.chaos.plan import BY_NAME, Fault, schedule
from tests.chaos.report import picture, table, write_json
from tests.chaos.stage import Stage
from tests.chaos.verdict import Verdict, gather, judge

BUILD = Path("build")
LATE_SECONDS = 2.0
OVERDUE = (
    "SELECT count(*) FROM signalpost.deliveries WHERE status = 'pending'"
    " AND next_attempt_at < clock_timestamp() - make_interval(secs => %s)"
)
OPEN = "SELECT count(*) FROM signalpost.deliveries WHERE status IN ('pending', 'sending')"
UNSENT = "SELECT count(*) FROM signalpost.alerts WHERE sent_at IS NULL"


class Run:
    """One run: faults are done and healed in time, and what each cost is watched."""

    def __init__(
        self, stage: Stage, faults: list[Fault], drain_seconds: float, say: Callable[[str], None]
    ) -> None:
        self._stage, self._faults, self._say = stage, faults, say
        self._drain_seconds = drain_seconds
        self.recovered: dict[int, float] = {}
        self.begun = time.time()

    def go(self) -> None:
        """Carry the schedule out; all is healed when it returns."""
        acts = [(f.at, 0, f) for f in self._faults] + [(f.end, 1, f) for f in self._faults]
        heals: dict[int, Callable[[], object]] = {}
        watchers = []
        for at, healing, fault in sorted(acts, key=lambda act: act[:2]):
            time.sleep(max(0.0, self.begun + at - time.time()))
            if healing:
                heals.pop(fault.number)()
                self._say(f"{fault.kind} is healed")
                watchers.append(threading.Thread(target=self._watch, args=(fault,), daemon=True))
                watchers[-1].start()
            else:
                self._say(f"{fault.kind} for {fault.seconds:g} s")
                heals[fault.number] = begin(fault.kind, self._stage)

    def _watch(self, fault: Fault) -> None:
        healed = time.time()
        while time.time() - healed < self._drain_seconds:
            if self._count(OVERDUE, LATE_SECONDS) == 0:
                self.recovered[fault.number] = time.time() - healed
                return
            time.sleep(0.25)

    def _count(self, question: str, *values: float) -> int:
        try:
            with self._stage.admin() as connection:
                row = connection.execute(question.encode(), values).fetchone()
                return -1 if row is None else int(row[0])
        except OSError:
            return -1
        except Exception:  # noqa: BLE001 - a database that is away answers nothing
            return -1

    def drain(self) -> bool:
        """Wait, at most so long, until every delivery has ended and every alert is sent."""
        end = time.time() + self._drain_seconds
        while time.time() < end:
            if self._count(OPEN) == 0 and self._count(UNSENT) == 0:
                return True
            time.sleep(0.5)
        return False


def main(argv: list[str]) -> int:
    """Run, print the table, write `build/chaos.json` and the timeline."""
    asked = _arguments(argv)
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    kinds = asked.faults.split(",") if asked.faults else list(BY_NAME)
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {text}", flush=True)

    say(f"seed {seed}")
    faults = schedule(seed, asked.minutes * 60, kinds, asked.every)
    length = max([f.end for f in faults] + [asked.minutes * 60]) + 3
    with ExitStack() as ending:
        folder = Path(asked.folder or ending.enter_context(tempfile.TemporaryDirectory()))
        stage = Stage(folder, seed, ending, say)
        stage.start_workers()
        stage.start_strategies(asked.strategies, length, asked.rate)
        run = Run(stage, faults, asked.drain, say)
        run.go()
        if not stage.strategies_ended(length + 60):
            say("a strategy did not end")
        say("everything is healed; waiting for the rest")
        if not run.drain():
            say(f"not drained within {asked.drain:g} s")
        messages = {str(m.message_id) for m in stage.telegram.standin.messages}
        verdict = judge(gather(folder, stage.postgres.url()), messages)
        _keep_logs(stage, folder)
        write_json(BUILD / "chaos.json", seed, faults, verdict)
        picture(BUILD / "chaos.svg", folder, faults, run.begun)
        print(table(verdict, faults, run.recovered, run.begun))
        return int(_failed(verdict))


def _failed(verdict: Verdict) -> bool:
    return verdict.signals == 0 or any(verdict.counts.values())


def _keep_logs(stage: Stage, folder: Path) -> None:
    for name, kept in {**stage.workers, **stage.strategies}.items():
        (folder / f"{name}.log").write_text("\n".join([*kept.lines, *kept.program.lines]))


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--rate", type=float, default=12.0, help="calls a second")
    parser.add_argument("--every", type=float, default=8.0, help="seconds between faults")
    parser.add_argument("--drain", type=float, default=150.0, help="seconds at most at the end")
    parser.add_argument("--strategies", type=int, default=2)
    parser.add_argument("--faults", default="", help="these kinds only, by comma")
    parser.add_argument("--folder", help="keep journals, ledgers and logs here")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
