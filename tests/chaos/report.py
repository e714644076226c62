"""What a run found: a table, a picture of the throughput with the faults in it, and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.ledger import LEDGER
from tests.chaos.plan import UP_KINDS, Fault
from tests.chaos.verdict import Verdict, lines_of

WIDTH, HEIGHT, LEFT, TOP = 1000, 240, 50, 20
SHOWN = 5
WINDOW, RECOVERED = 3, 0.8
"""Recovered is who, over so many seconds, has this share of what is enqueued accepted."""
AFTERMATH_SECONDS = 10
SMOOTH = 2.0


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def write_json(path: Path, seed: int, faults: Sequence[Fault], verdict: Verdict) -> None:
    """`build/chaos.json`, with integers for those who compare runs."""
    facts = {
        "seed": seed,
        "signals": verdict.signals,
        "faults": len(faults),
        **verdict.counts,
    }
    path.write_text(json.dumps(facts, indent=2) + "\n")


def table(seed: int, verdict: Verdict, faults: Sequence[Fault], begun: float) -> str:
    """The faults with what they cost, the counts, and the first of what was found."""
    recovered = recoveries(verdict, faults, begun)
    lines = ["", f"seed {seed}", "", f"{'at s':>7} {'for s':>6} {'recovered in s':>15}  fault"]
    lines += [
        f"{fault.at:7.1f} {fault.seconds:6.1f} {recovered[fault.number]:>15}  {fault.kind}"
        for fault in faults
    ]
    calm, storm = _apart(verdict, faults, begun)
    again = verdict.causes.total()
    share = again / max(len(verdict.latencies), 1)
    lines += [
        "",
        f"signals     {verdict.signals}",
        "deliveries  " + ", ".join(f"{n} {status}" for status, n in verdict.statuses.items()),
        (
            f"latency     apart from faults p50 {median(calm) * 1000 if calm else 0:.0f} ms, "
            f"p99 {quantile(calm, 0.99) * 1000:.0f} ms ({len(calm)} deliveries); "
            f"around faults p50 {median(storm) if storm else 0:.2f} s, "
            f"p99 {quantile(storm, 0.99):.2f} s (enqueue to the first acceptance)"
        ),
        f"repeats     {again} ({share:.2%}), each explained: {_told(verdict.causes) or 'none'}",
        "",
    ]
    for kind, found in verdict.found.items():
        lines.append(f"{kind:<13} {len(found)}")
        lines += [f"    {text}" for text in found[:SHOWN]]
    return "\n".join(lines)


def recoveries(verdict: Verdict, faults: Sequence[Fault], begun: float) -> dict[int, str]:
    """For each fault: seconds from its end until as much is accepted as is enqueued.

    Nothing is told where the next fault came first.
    """
    accepted = Counter(int(at + seconds - begun) for at, seconds in verdict.latencies)
    enqueued = Counter(int(at - begun) for at, _ in verdict.latencies)

    def sums(counts: Counter[int], second: int) -> int:
        return sum(counts[second + offset] for offset in range(WINDOW))

    told: dict[int, str] = {}
    last = max(enqueued, default=0)
    for fault in faults:
        others = [f.at for f in faults if f.end > fault.end and f is not fault]
        second = ceil(fault.end)
        while second + WINDOW <= last + 1 and (
            sums(enqueued, second) == 0
            or sums(accepted, second) < RECOVERED * sums(enqueued, second)
        ):
            second += 1
        after = max(0.0, second - fault.end)
        interrupted = min(others, default=float("inf")) < second
        told[fault.number] = f"> {after:.0f}, next" if interrupted else f"{after:.0f}"
    return told


def smooth(verdict: Verdict, faults: Sequence[Fault], begun: float) -> None:
    """Of rolling restarts alone: no repeat at all, and no p99 beyond twice that of the calm."""
    for cause, number in verdict.causes.items():
        verdict.finds("duplicated", f"{number} after {cause}")
    calm, rolling = _apart(verdict, faults, begun)
    if quantile(rolling, 0.99) > SMOOTH * quantile(calm, 0.99):
        verdict.finds(
            "late",
            f"p99 {quantile(rolling, 0.99) * 1000:.0f} ms during restarts, "
            f"{quantile(calm, 0.99) * 1000:.0f} ms apart from them",
        )


def _told(causes: Counter[str]) -> str:
    return ", ".join(f"{n} after {cause}" for cause, n in causes.most_common())


def _margin(fault: Fault) -> float:
    """What comes before a fault is calm, but for the start of a stack that is to be killed."""
    return 30.0 if fault.kind in UP_KINDS else 1.0


def _apart(
    verdict: Verdict, faults: Sequence[Fault], begun: float
) -> tuple[list[float], list[float]]:
    """Latencies of what was enqueued while nothing was wrong, and of the rest."""
    calm: list[float] = []
    storm: list[float] = []
    for at, seconds in verdict.latencies:
        hit = any(
            begun + f.at - _margin(f) < at < begun + f.end + AFTERMATH_SECONDS for f in faults
        )
        (storm if hit else calm).append(seconds)
    return calm, storm


def picture(path: Path, seed: int, folder: Path, faults: Sequence[Fault], begun: float) -> None:
    """Acceptances and enqueues a second over time, the faults as bands, as SVG."""
    accepted = Counter(int(e["at"] - begun) for e in lines_of(folder / LEDGER) if e["acted"])
    enqueued: Counter[int] = Counter()
    for journal in folder.glob("journal-*.jsonl"):
        for line in lines_of(journal):
            if line["op"] == "enqueued":
                enqueued[int(line["at"] - begun)] += sum(map(len, line["deliveries"]))
    seconds = max([*accepted, *enqueued, 1])
    most = max([*accepted.values(), *enqueued.values(), 1])

    def x(at: float) -> float:
        return LEFT + at / seconds * (WIDTH - LEFT)

    def curve(counts: Counter[int], colour: str) -> str:
        points = " ".join(
            f"{x(second):.1f},{TOP + HEIGHT * (1 - counts[second] / most):.1f}"
            for second in range(seconds + 1)
        )
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'

    parts: list[Any] = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 60}" '
            'font-family="sans-serif" font-size="10">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT + 60}" fill="white"/>',
    ]
    for fault in faults:
        width = max(x(fault.end) - x(fault.at), 2)
        parts.append(
            f'<rect x="{x(fault.at):.1f}" y="{TOP}" width="{width:.1f}" height="{HEIGHT}" '
            f'fill="#d33" fill-opacity="0.15"><title>{fault.kind}</title></rect>'
        )
    parts += [
        curve(enqueued, "#888"),
        curve(accepted, "#06c"),
        f'<text x="4" y="{TOP + 8}">{most}/s</text>',
        f'<text x="{LEFT}" y="{HEIGHT + TOP + 16}">0 s</text>',
        f'<text x="{WIDTH - 40}" y="{HEIGHT + TOP + 16}">{seconds} s</text>',
        (
            f'<text x="{LEFT}" y="{HEIGHT + TOP + 34}">seed {seed}; grey: deliveries '
            "enqueued a second; blue: requests that receivers acted on; red: a fault</text>"
        ),
        "</svg>",
    ]
    path.write_text("\n".join(parts) + "\n")
