"""An example strategy: replays real daily prices faster than life and enqueues its signals.

    python strategy.py                        every signal to every endpoint
    python strategy.py --to desk --to journal --strong-to second-desk

It prints one line for each signal: when enqueue was called (UTC), what for, and what came of it;
no price and no reason, for lines end up in logs. Run it twice: a signal's id follows from its
content, so the second run finds every signal there already and nothing is sent twice.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path

from indicators import Bar
from rules import Strategy

from signalpost import DatabaseUnavailable, EnqueueTimeout, EnqueueUnknown, Producer, Signal

PRICES = Path(__file__).parent / "data" / "daily-prices.csv"
STRONG = Decimal("0.9")


@dataclass
class Tally:
    """What became of the signals of one run."""

    enqueued: int = 0
    duplicates: int = 0


def read_days(path: Path) -> Iterator[list[Bar]]:
    """The bars of all instruments, day by day, oldest first."""
    with path.open(newline="", encoding="utf-8") as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: (row["date"], row["ticker"]))
    for _, day in groupby(rows, key=lambda row: row["date"]):
        yield [
            Bar(r["ticker"], r["date"], Decimal(r["high"]), Decimal(r["low"]), Decimal(r["close"]))
            for r in day
        ]


def paced(days: Iterator[list[Bar]], days_per_second: float) -> Iterator[list[Bar]]:
    """The same days, let through at that pace (0: as fast as they come)."""
    start = time.monotonic()
    for count, day in enumerate(days):
        if days_per_second:
            time.sleep(max(0.0, start + count / days_per_second - time.monotonic()))
        yield day


def enqueue(producer: Producer, signal: Signal, endpoints: list[str] | None, tally: Tally) -> None:
    """Enqueue one signal; while the database is away, call again with the same signal."""
    wait = 0.2
    while True:
        called = datetime.now(UTC)
        try:
            result = producer.enqueue(signal, endpoints=endpoints)
        except (DatabaseUnavailable, EnqueueTimeout, EnqueueUnknown) as error:
            # Always safe: a signal that did get in is recognised by its id.
            print(f"waiting {wait:.1f} s: {error}", file=sys.stderr, flush=True)
            time.sleep(wait)
            wait = min(wait * 2, 5.0)
            continue
        tally.duplicates += result.duplicate
        tally.enqueued += not result.duplicate
        print(
            f"{called:%Y-%m-%dT%H:%M:%S.%fZ} {signal.instrument} {signal.side} "
            f"signal={result.signal_id} deliveries={len(result.deliveries)} "
            f"duplicate={'yes' if result.duplicate else 'no'}",
            flush=True,
        )
        return


def run(options: argparse.Namespace) -> Tally:
    """Replay the prices through the rule and enqueue what comes out."""
    strategies: dict[str, Strategy] = defaultdict(Strategy)
    tally = Tally()
    with Producer(data=options.data) as producer:
        for day in paced(read_days(options.prices), options.days_per_second):
            for bar in day:
                for signal in strategies[bar.ticker].on_bar(bar):
                    strong = signal.confidence >= STRONG
                    names = options.to + (options.strong_to if strong else [])
                    enqueue(producer, signal, names or None, tally)
    return tally


def main() -> None:
    """Read the options, run, say how many signals went out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--prices", type=Path, default=PRICES, help="CSV of daily prices")
    parser.add_argument("--days-per-second", type=float, default=50, help="0: without a pause")
    parser.add_argument("--data", type=Path, help="data folder of a running `signalpost up`")
    parser.add_argument("--to", action="append", default=[], metavar="ENDPOINT")
    parser.add_argument(
        "--strong-to",
        action="append",
        default=[],
        metavar="ENDPOINT",
        help=f"also here, where the confidence is {STRONG} or more",
    )
    try:
        tally = run(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"done: {tally.enqueued} enqueued, {tally.duplicates} known already", flush=True)


if __name__ == "__main__":
    main()
