"""What a run found: a table, a picture of the throughput with the faults in it, and JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.chaos.ledger import LEDGER
from tests.chaos.plan import Fault
from tests.chaos.verdict import Verdict, lines_of

WIDTH, HEIGHT, LEFT, TOP = 1000, 240, 50, 20
SHOWN = 5


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def write_json(path: Path, seed: int, faults: Sequence[Fault], verdict: Verdict) -> None:
    """`build/chaos.json`, with integers for those who compare runs."""
    path.parent.mkdir(exist_ok=True)
    facts = {
        "seed": seed,
        "signals": verdict.signals,
        "faults": len(faults),
        **verdict.counts,
        "duplicates_with_a_cause": verdict.causes.total(),
        "deliveries": dict(verdict.statuses),
    }
    path.write_text(json.dumps(facts, indent=2) + "\n")


def table(
    verdict: Verdict, faults: Sequence[Fault], recovered: dict[int, float], begun: float
) -> str:
    """The faults with what they cost, the counts, and the first of what was found."""
    lines = ["", f"{'at s':>6} {'for s':>6} {'recovered after s':>18}  fault"]
    for fault in faults:
        after = recovered.get(fault.number)
        told = "not seen" if after is None else f"{after:.1f}"
        lines.append(f"{fault.at:6.1f} {fault.seconds:6.1f} {told:>18}  {fault.kind}")
    calm, storm = _apart(verdict, faults, begun)
    lines += [
        "",
        f"signals     {verdict.signals}",
        "deliveries  " + ", ".join(f"{n} {status}" for status, n in verdict.statuses.items()),
        (
            f"latency     calm p50 {median(calm) * 1000 if calm else 0:.0f} ms, "
            f"p99 {quantile(calm, 0.99) * 1000:.0f} ms; "
            f"during faults p50 {median(storm) if storm else 0:.2f} s, "
            f"p99 {quantile(storm, 0.99):.2f} s (enqueue to the first acceptance)"
        ),
        "duplicates  " + (_told(verdict.causes) or "none"),
        "",
    ]
    for kind, found in verdict.found.items():
        lines.append(f"{kind:<13} {len(found)}")
        lines += [f"    {text}" for text in found[:SHOWN]]
    return "\n".join(lines)


def _told(causes: Counter[str]) -> str:
    return ", ".join(f"{n} after {cause}" for cause, n in causes.most_common())


def _apart(
    verdict: Verdict, faults: Sequence[Fault], begun: float
) -> tuple[list[float], list[float]]:
    """Latencies of what was enqueued while nothing was wrong, and of the rest."""
    calm: list[float] = []
    storm: list[float] = []
    for at, seconds in verdict.latencies:
        hit = any(begun + f.at - 1 < at < begun + f.end + 15 for f in faults)
        (storm if hit else calm).append(seconds)
    return calm, storm


def picture(path: Path, folder: Path, faults: Sequence[Fault], begun: float) -> None:
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
            f'<text x="{LEFT}" y="{HEIGHT + TOP + 34}">grey: deliveries enqueued a second; '
            "blue: requests that receivers acted on; red: a fault</text>"
        ),
        "</svg>",
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(parts) + "\n")
