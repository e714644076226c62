from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.bench import pictures
from tests.bench.asked import judged
from tests.bench.cases import Sample
from tests.bench.results import Row, medians, table, write_json


def line_of(text: str, beginning: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(beginning))


def test_medians() -> None:
    """Each figure of a row is the median of its rounds, and what no round measured stays None."""
    found = medians(
        "signalpost",
        "drain",
        "fast",
        [Sample(100, 2.0), Sample(900, 3.0), Sample(200, 1.0)],
    )
    assert (found.per_s, found.cpu_s_per_1000, found.p50_ms, found.rounds) == (200, 2.0, None, 3)


def test_json(tmp_path: Path) -> None:
    """The file names the machine, and has every figure of every row, null where there is none."""
    file = tmp_path / "new" / "bench.json"
    write_json(file, "two cores", [Row("arq", "task", "fast", per_s=700.0)])
    facts = json.loads(file.read_text())
    [row] = facts["rows"]
    assert facts["machine"] == "two cores"
    assert (row["system"], row["way"], row["case"], row["per_s"]) == ("arq", "task", "fast", 700)
    assert row["p99_ms"] is None
    assert {"cpu_s_per_1000", "p50_ms", "mib"} < row.keys()


def test_table_names_ways() -> None:
    """The table has a block for each case, and tells our two ways apart and how all were tuned."""
    rows = [
        Row("signalpost", "drain", "fast", per_s=5000.0),
        Row("signalpost", "deliver", "fast", per_s=600.0),
        Row("taskiq", "task", "slow", per_s=500.0),
    ]
    told = table(rows, {"taskiq": "two processes"})
    assert "5,000" in line_of(told, "signalpost drain")
    assert "600" in line_of(told, "signalpost deliver")
    assert [line.split()[0] for line in told.splitlines() if "per s" in line] == ["fast", "slow"]
    assert "taskiq: two processes" in told


def test_ratio_to_best_peer() -> None:
    """Bulk is held against the best peer, not against Celery by hand or a slower one."""
    rows = [
        Row("signalpost", "drain", "fast", per_s=4000.0),
        Row("celery tuned", "task", "fast", per_s=2000.0),
        Row("forty lines", "task", "fast", per_s=100.0),
        Row("arq", "task", "fast", per_s=500.0),
        Row("taskiq", "task", "fast", per_s=1000.0),
    ]
    told = judged(rows)
    assert line_of(told, "bulk, fast receiver").endswith("NOT REACHED")
    best = line_of(told, "times the best peer ")
    assert best.split()[-2:] == ["4.00", "reached"]
    assert line_of(told, "times the forty lines").split()[-2] == "40.00"


def test_missing_is_told() -> None:
    """What a run did not measure is neither reached nor missed."""
    told = judged([])
    assert "reached" not in told.lower().replace("not reached", "")
    assert told.count("not measured") == len(told.splitlines())


def test_largest_size_counts() -> None:
    """Of a case that comes in sizes the largest is judged, by number and not by spelling."""
    rows = [
        Row("signalpost", "drain", f"scale-{size}", p50_ms=ms)
        for size, ms in ((90_000, 9.0), (1_000_000, 0.7))
    ]
    assert line_of(judged(rows), "claim of 50").split()[-2:] == ["0.70", "reached"]


def test_pictures_are_svg(tmp_path: Path) -> None:
    """Each picture is well-formed, whatever stands in a name, and shows every system."""
    rows = [
        Row("signalpost", "drain", "fast", per_s=5000.0),
        Row("a <b> & c", "task", "fast", per_s=1.0),
    ]
    names = ("bars.svg", "curves.svg", "growth.svg")
    bars, curves, growth = (tmp_path / name for name in names)
    pictures.bars(bars, rows, ("fast", "slow"))
    pictures.curves(curves, "t", {"a <b>": [3.0, 1.0, 2.0], "one": [5.0], "none": []})
    pictures.growth(growth, "t", {"claim, ms": [(1000, 0.4), (1_000_000, 0.5)]})
    shown = {
        name: "".join(ET.fromstring((tmp_path / name).read_text()).itertext())  # noqa: S314 - our own file
        for name in names
    }
    assert "signalpost drain" in shown["bars.svg"]
    assert "a <b> & c" in shown["bars.svg"]
    assert "a <b>" in shown["curves.svg"]
    assert "claim, ms" in shown["growth.svg"]
