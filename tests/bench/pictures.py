"""The pictures of a run as SVG: throughput as bars, latency as curves, cost against outbox size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from pathlib import Path

from tests.bench.results import OURS, Row

__all__ = ["bars", "curves", "growth"]

WIDTH, LEFT, LINE = 800, 170, 22
PLOT_HEIGHT, TOP, PLOT_LEFT = 240, 40, 60
OWN, OTHER = "#06c", "#999"
COLOURS = ("#06c", "#3a3", "#d60", "#a3c", "#c33", "#888", "#0aa", "#550")


def bars(path: Path, rows: Sequence[Row], cases: Sequence[str]) -> None:
    """Deliveries a second of each system, a block of bars for each case, each on its own scale."""
    parts: list[str] = []
    y = TOP
    for case in cases:
        shown = [row for row in rows if row.case == case and row.per_s]
        if not shown:
            continue
        most = max(row.per_s or 0 for row in shown)
        parts.append(_text(10, y, f"{case}: deliveries a second", bold=True))
        for row in shown:
            y += LINE
            wide = (row.per_s or 0) / most * (WIDTH - LEFT - 80)
            colour = OWN if row.system == OURS else OTHER
            parts.append(_text(10, y, row.label))
            parts.append(
                f'<rect x="{LEFT}" y="{y - 12}" width="{max(wide, 1):.1f}" height="15" '
                f'fill="{colour}"/>'
            )
            parts.append(_text(LEFT + wide + 6, y, f"{row.per_s:,.0f}"))
        y += 2 * LINE
    _write(path, y, parts)


def curves(path: Path, title: str, times: Mapping[str, Sequence[float]]) -> None:
    """For each system, which share of its deliveries (y) arrived within so many ms (x, log)."""
    drawn = {name: sorted(found) for name, found in times.items() if found}
    most = max((found[-1] for found in drawn.values()), default=1.0)
    least = max(min((found[0] for found in drawn.values()), default=0.1), 0.1)

    def x(ms: float) -> float:
        return _scaled(ms, least, most)

    parts = [_text(10, 20, title, bold=True), *_log_axis(least, most, "ms")]
    for share in (0.0, 0.5, 0.9, 1.0):
        y = TOP + PLOT_HEIGHT * (1 - share)
        parts += [_line(PLOT_LEFT, y, WIDTH - 10, y), _text(20, y + 4, f"{share:.0%}")]
    for number, (name, found) in enumerate(drawn.items()):
        points = " ".join(
            f"{x(max(ms, least)):.1f},{TOP + PLOT_HEIGHT * (1 - (place + 1) / len(found)):.1f}"
            for place, ms in _thinned(found)
        )
        colour = COLOURS[number % len(COLOURS)]
        parts.append(_polyline(points, colour))
        parts += _legend(number, name, colour)
    _write(path, TOP + PLOT_HEIGHT + 40 + LINE * ((len(drawn) + 1) // 2), parts)


def growth(path: Path, title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Cost (y, from 0) against rows in the outbox (x, log); each line on a scale of its own."""
    sizes = [size for points in lines.values() for size, _ in points] or [1.0]
    least, most = min(sizes), max(sizes)
    parts = [_text(10, 20, title, bold=True), *_log_axis(least, most, "rows")]
    parts.append(_line(PLOT_LEFT, TOP + PLOT_HEIGHT, WIDTH - 10, TOP + PLOT_HEIGHT))
    for number, (name, points) in enumerate(lines.items()):
        top = 1.6 * max((cost for _, cost in points), default=1.0) or 1.0
        colour = COLOURS[number % len(COLOURS)]
        placed = [
            (_scaled(size, least, most), TOP + PLOT_HEIGHT * (1 - cost / top))
            for size, cost in points
        ]
        parts.append(_polyline(" ".join(f"{x:.1f},{y:.1f}" for x, y in placed), colour))
        for (x, y), (_, cost) in zip(placed, points, strict=True):
            parts.append(_text(min(x, WIDTH - 50), y - 6 - 12 * (number % 2), f"{cost:.2f}"))
        parts += _legend(number, name, colour)
    _write(path, TOP + PLOT_HEIGHT + 40 + LINE * ((len(lines) + 1) // 2), parts)


def _thinned(found: Sequence[float]) -> list[tuple[int, float]]:
    step = max(1, len(found) // 300)
    kept = list(enumerate(found))[::step]
    return [*kept, (len(found) - 1, found[-1])]


def _scaled(value: float, least: float, most: float) -> float:
    span = log10(most / least) or 1.0
    return PLOT_LEFT + log10(value / least) / span * (WIDTH - PLOT_LEFT - 20)


def _log_axis(least: float, most: float, unit: str) -> list[str]:
    parts = []
    for power in range(-1, 8):
        for digit in (1, 2, 5):
            value = digit * 10.0**power
            if least <= value <= most:
                x = _scaled(value, least, most)
                parts.append(_line(x, TOP, x, TOP + PLOT_HEIGHT))
                told = f"{value:,.0f}" if value >= 1 else f"{value:g}"
                parts.append(_text(x - 8, TOP + PLOT_HEIGHT + 15, told))
    return [*parts, _text(WIDTH - 40, TOP + PLOT_HEIGHT + 30, unit)]


def _legend(number: int, name: str, colour: str) -> list[str]:
    x = PLOT_LEFT + (number % 2) * 370
    y = TOP + PLOT_HEIGHT + 45 + LINE * (number // 2)
    box = f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>'
    return [box, _text(x + 18, y, name)]


def _polyline(points: str, colour: str) -> str:
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _line(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, what: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{weight}>{escape(what)}</text>'


def _write(path: Path, height: float, parts: Sequence[str]) -> None:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        'font-family="sans-serif" font-size="12">'
    )
    back = f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, back, *parts, "</svg>"]) + "\n")
