"""`make bench`: signalpost beside its peers, in turns, on the same servers.

Writes `bench.json`, `bench.txt` and the pictures into `--out`. Ctrl-C ends everything in order.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.bench import own_cases, pictures
from tests.bench.asked import judged
from tests.bench.cases import CASES, Sample, warm
from tests.bench.ground import Ground, Stuck, Visit, ground
from tests.bench.results import OURS, Row, medians, table, write_json
from tests.bench.systems import BY_NAME, SYSTEMS, System

INTERRUPTED = 130
DRAIN, DELIVER = "signalpost-drain", "signalpost-deliver"
LATENCY = ("latency-50", "latency-400")
WHOLE = tuple(BY_NAME)
QUICK = ("forty-lines", "dramatiq", "taskiq", "procrastinate", DELIVER, DRAIN)


@dataclass
class Bench:
    """A run: what is asked for, and the samples so far by system, way and case."""

    asked: argparse.Namespace
    ground: Ground
    samples: dict[tuple[str, str, str], list[Sample]] = field(
        default_factory=lambda: defaultdict(list)
    )
    growth: list[tuple[int, Sample]] = field(default_factory=list)

    def run(self) -> None:
        """All systems in turn, so many rounds; then what is measured of ours alone."""
        systems = [BY_NAME[name] for name in self.asked.systems]
        for system in systems:
            # All installed before anything is measured.
            self.ground.python(system)
        for number in range(self.asked.rounds):
            self.ground.say(f"round {number + 1} of {self.asked.rounds}")
            for system in systems:
                self._visit(system)
        if DRAIN in self.asked.systems:
            self._alone()

    def _visit(self, system: System) -> None:
        try:
            with Visit(self.ground, system) as visit:
                warm(visit)
                for case in self.asked.cases:
                    if case in LATENCY and system.key == DRAIN:
                        continue  # how a producer's signals go is the library's own choice
                    self._case(visit, case)
                if system.key == DELIVER and not self.asked.quick:
                    self._add(visit, "enqueue", "burst", own_cases.burst(visit, 1.0))
                    self._add(visit, "enqueue", "latency-held", own_cases.held(visit, 3.0))
        except (Stuck, AssertionError) as trouble:
            self.ground.say(f"{system.label} left out of this round: {str(trouble)[-500:]}")

    def _case(self, visit: Visit, case: str) -> None:
        sample = CASES[case](visit, self.asked.seconds)
        ours = visit.system.name == OURS
        way = "enqueue" if ours and case in LATENCY else visit.system.way
        self._add(visit, way, case, sample)
        if case == "latency-50":
            took = sample.enqueue_ms
            middle, most = took[len(took) // 2], took[int(len(took) * 0.99)]
            self._add(visit, "enqueue", "producer", Sample(p50_ms=middle, p99_ms=most))

    def _alone(self) -> None:
        quick = self.asked.quick
        try:
            with Visit(self.ground, BY_NAME[DRAIN]) as visit:
                warm(visit)
                sample = own_cases.many(visit, 5000 if quick else 20_000)
                self._add(visit, "enqueue_many", "producer", sample)
                for size, sample in own_cases.scale(visit, self.asked.scale, self.asked.seconds):
                    self.growth.append((size, sample))
                    self._add(visit, "drain", f"scale-{size}", sample)
                if not quick:
                    without, beside = own_cases.isolation(visit, self.asked.seconds)
                    self._add(visit, "drain", "isolation-without", without)
                    self._add(visit, "drain", "isolation-beside", beside)
            if not quick:
                with Visit(self.ground, BY_NAME[DRAIN]) as visit:
                    warm(visit)
                    sample = own_cases.backlog(visit, self.asked.scale[-1], 5.0)
                    self._add(visit, "drain", f"backlog-{self.asked.scale[-1]}", sample)
        except (Stuck, AssertionError) as trouble:
            self.ground.say(f"signalpost alone, not to its end: {str(trouble)[-500:]}")

    def _add(self, visit: Visit, way: str, case: str, sample: Sample) -> None:
        self.samples[visit.system.name, way, case].append(sample)
        told = f"{sample.per_s:,.0f}/s" if sample.per_s else f"p50 {sample.p50_ms or 0:.1f} ms"
        self.ground.say(f"  {visit.system.name} {way}, {case}: {told}")

    def rows(self) -> list[Row]:
        """The medians, by case in order of first measure."""
        return [medians(*key, found) for key, found in self.samples.items()]

    def report(self) -> str:
        """Write JSON and pictures; return the table."""
        rows, out = self.rows(), self.asked.out
        write_json(out / "bench.json", machine(), rows)
        pictures.bars(out / "bench-throughput.svg", rows, ("fast", "slow", "mixed"))
        for case in LATENCY:
            times = {
                system if system != OURS else f"{system} {way}": [
                    ms for one in found for ms in one.times_ms
                ]
                for (system, way, at), found in self.samples.items()
                if at == case
            }
            title = f"enqueue to receiver, {case.partition('-')[2]} a second"
            if times:
                pictures.curves(out / f"bench-{case}.svg", title, times)
        if self.growth:
            lines = {
                "claim of 50, ms": [(size, one.p50_ms or 0.0) for size, one in self.growth],
                "worker CPU s for 1000": [(s, one.cpu_s_per_1000 or 0.0) for s, one in self.growth],
                "PostgreSQL CPU s for 1000": [
                    (size, one.postgres_s_per_1000 or 0.0) for size, one in self.growth
                ],
            }
            pictures.growth(out / "bench-growth.svg", "cost against finished rows", lines)
        tunings = {one.label: one.tuning for one in SYSTEMS if one.key in self.asked.systems}
        told = "\n\n".join([machine(), table(rows, tunings), "asked for:", judged(rows)])
        (out / "bench.txt").write_text(told + "\n")
        return told


def machine() -> str:
    """What it ran on, in a line."""
    load = psutil.getloadavg()[0]
    return (
        f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} cores, Python "
        f"{platform.python_version()}, PostgreSQL and valkey embedded, load at the end {load:.1f}"
    )


def main(argv: Sequence[str]) -> int:
    """Measure, write, print."""
    asked = _arguments(argv)
    begun = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - begun:6.1f} s  {what}", flush=True)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ground(say) as stage:
            bench = Bench(asked, stage)
            bench.run()
            print("\n" + bench.report())
    except KeyboardInterrupt:
        say("stopped: everything is ended, nothing is written")
        return INTERRUPTED
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main cases, in 3 minutes")
    parser.add_argument("--rounds", type=int, default=3, help="medians are of so many")
    parser.add_argument("--seconds", type=float, help="of work in each case and round, about")
    parser.add_argument("--systems", type=_names(WHOLE), help=f"by comma: {', '.join(WHOLE)}")
    parser.add_argument("--cases", type=_names(tuple(CASES)), help=f"by comma: {', '.join(CASES)}")
    parser.add_argument("--scale", type=_sizes, help="finished rows, by comma, from few to many")
    parser.add_argument("--out", type=Path, default=Path("build"), help="where the report goes")
    asked = parser.parse_args(argv)
    asked.seconds = asked.seconds or (0.5 if asked.quick else 2.0)
    asked.systems = asked.systems or (QUICK if asked.quick else WHOLE)
    asked.cases = asked.cases or (("fast", "slow", "latency-50") if asked.quick else tuple(CASES))
    asked.scale = asked.scale or ([10_000, 50_000] if asked.quick else [10_000, 100_000, 1_000_000])
    return asked


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return found

    return names


def _sizes(text: str) -> list[int]:
    return sorted(int(size) for size in text.split(","))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
