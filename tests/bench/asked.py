"""What the figures must show, and whether they do: ratios only ever from one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.results import OURS, Row

__all__ = ["judged"]

FORTY = "forty lines"
BY_HAND = (FORTY, "celery tuned")


@dataclass(frozen=True)
class Figures:
    """The rows of a run, by what is asked of them."""

    rows: Sequence[Row]

    def ours(self, way: str, case: str, figure: str) -> float | None:
        """One figure of ours."""
        for row in self.rows:
            if (row.system, row.way, row.case) == (OURS, way, case):
                return _number(getattr(row, figure))
        return None

    def peers(self, case: str, figure: str, *names: str) -> list[float]:
        """This figure of these peers; of all that are no Celery by hand where none is named."""
        return [
            value
            for row in self.rows
            if row.case == case and row.system != OURS
            if (row.system in names if names else row.system not in BY_HAND)
            if (value := _number(getattr(row, figure))) is not None
        ]

    def times_best(self, way: str, case: str, *names: str) -> float | None:
        """How many times the best of these peers we deliver in a second."""
        own, best = self.ours(way, case, "per_s"), max(self.peers(case, "per_s", *names), default=0)
        return own / best if own and best else None

    def beside_ill(self) -> float | None:
        """Healthy endpoints' throughput beside ill ones, as a part of that without them."""
        beside = self.ours("drain", "isolation-beside", "per_s")
        without = self.ours("drain", "isolation-without", "per_s")
        return beside / without if beside and without else None

    def most(self, case: str, figure: str) -> float | None:
        """One figure of drain at the largest size of a case that comes in sizes."""
        found = [
            (int(row.case.rpartition("-")[2]), _number(getattr(row, figure)))
            for row in self.rows
            if row.system == OURS and row.case.startswith(case)
        ]
        return max(found, default=(0, None))[1]

    def behind_best(self, case: str) -> float | None:
        """Our p50 beside the best peer's."""
        own, best = self.ours("enqueue", case, "p50_ms"), min(self.peers(case, "p50_ms"), default=0)
        return own / best if own and best else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


Measure = Callable[[Figures], float | None]


def _ours(way: str, case: str, figure: str) -> Measure:
    return lambda figures: figures.ours(way, case, figure)


ASKED: tuple[tuple[str, str, float, Measure], ...] = (
    ("bulk, fast receiver, a second", ">=", 4500, _ours("drain", "fast", "per_s")),
    ("  times the best peer", ">=", 3.5, lambda f: f.times_best("drain", "fast")),
    ("  times the forty lines", ">=", 20, lambda f: f.times_best("drain", "fast", FORTY)),
    ("bulk, 200 ms receiver, a second", ">=", 1500, _ours("drain", "slow", "per_s")),
    ("  times the best peer", ">=", 2.5, lambda f: f.times_best("drain", "slow")),
    ("singles, fast receiver, a second", ">=", 650, _ours("deliver", "fast", "per_s")),
    ("burst of singles, a second", ">=", 1500, _ours("enqueue", "burst", "per_s")),
    ("enqueue to receiver at 50/s, p50 ms", "<=", 5, _ours("enqueue", "latency-50", "p50_ms")),
    ("  p99 ms", "<=", 10, _ours("enqueue", "latency-50", "p99_ms")),
    ("  times the best peer's p50", "<=", 1.5, lambda f: f.behind_best("latency-50")),
    ("the same at 400/s, p50 ms", "<=", 5, _ours("enqueue", "latency-400", "p50_ms")),
    ("  p99 ms", "<=", 15, _ours("enqueue", "latency-400", "p99_ms")),
    ("at 50/s beside 400 open, p99 ms", "<=", 40, _ours("enqueue", "latency-held", "p99_ms")),
    ("enqueue, p50 ms", "<=", 1.2, _ours("enqueue", "producer", "p50_ms")),
    ("enqueue_many, a second", ">=", 15_000, _ours("enqueue_many", "producer", "per_s")),
    ("claim of 50, most finished rows, ms", "<=", 1, lambda f: f.most("scale-", "p50_ms")),
    ("others beside a dead and a 25 s one", ">=", 0.9, Figures.beside_ill),
    ("MiB of one worker, most waiting rows", "<=", 120, lambda f: f.most("backlog-", "mib")),
)
"""What, which side, how much, and where it stands in a run's rows."""


def judged(rows: Sequence[Row]) -> str:
    """A line for each thing asked for: the figure, and reached, not reached or not measured."""
    figures = Figures(rows)
    lines = []
    for what, side, wanted, measure in ASKED:
        found = measure(figures)
        if found is None:
            verdict = "not measured"
        else:
            reached = found >= wanted if side == ">=" else found <= wanted
            verdict = f"{found:>10,.2f}  {'reached' if reached else 'NOT REACHED'}"
        lines.append(f"{what:<38} {side} {wanted:>8,g}   {verdict}")
    return "\n".join(lines)
