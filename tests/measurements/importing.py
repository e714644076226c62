"""What importing signalpost costs a strategy: time and memory, beside what it rests on.

    python -m tests.measurements.importing

Each row is the median of several fresh processes, started in turns, with compiled files in place.
Time is the processor's: what the clock of an idle machine shows, and other programs change little.
Time and memory of an empty process are taken off.
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median

ROUNDS = 9

ROWS = {
    "nothing": "",
    "`import signalpost`": "import signalpost",
    "pydantic and SQLAlchemy alone": "import pydantic, sqlalchemy.orm, sqlalchemy.ext.asyncio",
    "`from signalpost import Producer, Signal`": "from signalpost import Producer, Signal",
    "the same, and a Producer made": (
        "from signalpost import Producer, Signal; Producer('postgresql://h/d', producer_id='p')"
    ),
    "`from signalpost.direct import SignalClient`": "from signalpost.direct import SignalClient",
}

TIMED = """
import time
begun = time.process_time()
{code}
took = time.process_time() - begun
import resource, sys
unit = 1 if sys.platform == "darwin" else 1024
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


def once(code: str) -> tuple[float, float]:
    """Processor seconds of `code` in a process of its own, and the most bytes that it held."""
    argv = [sys.executable, "-c", TIMED.format(code=code)]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    took, peak = told.split()
    return float(took), float(peak)


def main() -> None:
    """Print a line for each row."""
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in ROWS}
    for _ in range(ROUNDS):
        for name, code in ROWS.items():
            results[name].append(once(code))
    empty = median(peak for _, peak in results["nothing"])
    for name, each in results.items():
        took = median(seconds for seconds, _ in each)
        held = median(peak for _, peak in each) - empty
        print(f"{name:48} {took * 1000:6.0f} ms  {held / 2**20:5.0f} MiB")


if __name__ == "__main__":
    main()
