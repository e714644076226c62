"""From rounds to rows: medians, `bench.json`, the table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from tests.bench.cases import Sample

__all__ = ["OURS", "Row", "medians", "table", "write_json"]

OURS = "signalpost"
COLUMNS = (
    ("per_s", "per s", "{:,.0f}"),
    ("cpu_s_per_1000", "CPU", "{:.2f}"),
    ("postgres_s_per_1000", "PG", "{:.2f}"),
    ("redis_s_per_1000", "Redis", "{:.2f}"),
    ("p50_ms", "p50 ms", "{:.1f}"),
    ("p99_ms", "p99 ms", "{:.1f}"),
    ("mib", "MiB", "{:.0f}"),
)


@dataclass(frozen=True)
class Row:
    """One system, way and case; each figure is a median of rounds, None where it is not measured.

    CPU is seconds of the workers for 1000 deliveries, those of PostgreSQL and Redis apart.
    """

    system: str
    way: str
    case: str
    per_s: float | None = None
    cpu_s_per_1000: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    mib: float | None = None
    postgres_s_per_1000: float | None = None
    redis_s_per_1000: float | None = None
    rounds: int = 1

    @property
    def label(self) -> str:
        return f"{self.system} {self.way}" if self.system == OURS else self.system


def medians(system: str, way: str, case: str, samples: Sequence[Sample]) -> Row:
    """The row of all rounds of a case; each figure's median is its own."""

    def of(name: str) -> float | None:
        found = [value for one in samples if (value := getattr(one, name)) is not None]
        return round(median(found), 3) if found else None

    figures = {name: of(name) for name, _, _ in COLUMNS}
    return Row(system, way, case, rounds=len(samples), **figures)


def write_json(path: Path, machine: str, rows: Sequence[Row]) -> None:
    """`{"machine": ..., "rows": [...]}`; a figure that a case does not measure is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"machine": machine, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(facts, indent=1) + "\n")


def table(rows: Sequence[Row], tunings: Mapping[str, str]) -> str:
    """All rows by case, the quickest last, then how each system was tuned."""
    width = max((len(row.label) for row in rows), default=0)
    lines: list[str] = []
    for case in dict.fromkeys(row.case for row in rows):
        heads = "".join(f"{head:>9}" for _, head, _ in COLUMNS)
        lines += ["", f"{case:<{width + 2}}{heads}"]
        for row in (row for row in rows if row.case == case):
            cells = "".join(_cell(getattr(row, name), form) for name, _, form in COLUMNS)
            lines.append(f"  {row.label:<{width}}{cells}")
    lines += ["", "CPU, PG, Redis: processor seconds for 1000 deliveries of workers and servers."]
    lines += [f"{label}: {tuning}" for label, tuning in tunings.items()]
    return "\n".join(lines).strip("\n")


def _cell(value: float | None, form: str) -> str:
    return f"{'' if value is None else form.format(value):>9}"
