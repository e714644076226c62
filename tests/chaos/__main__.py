"""Chaos: `make chaos MINUTES=20 SEED=7`. Exit 1 on any finding.

The whole stack on real servers, faults drawn from the seed, and at the end the verdict: what the
strategies wrote down, the database and the receivers' ledgers held together. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType

from tests.chaos import upside
from tests.chaos.plan import BY_NAME, ROLLING, UP_KINDS, Fault, last_act, placed, schedule
from tests.chaos.report import picture, smooth, table, write_json
from tests.chaos.run import Run
from tests.chaos.stage import Stage
from tests.chaos.verdict import Verdict, gather, judge

CALM_SECONDS = 30.0
"""Nothing goes wrong so long at the beginning and at the end of a run that has room for it."""
CALM_SHARE = 0.1
INTERRUPTED = 130
FAULTS_HELP = "these kinds only, by comma; kind@8+13,...: just these, at 8 s for 13 s"


def main(argv: list[str]) -> int:
    """Run, print the table, write `chaos.json`, `chaos.txt` and `chaos.svg` into `--out`."""
    asked = _arguments(argv)
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {text}", flush=True)

    say(f"seed {seed}")
    signal.signal(signal.SIGTERM, _interrupt)
    folder = Path(tempfile.mkdtemp(prefix="signalpost-chaos-"))
    try:
        with ExitStack() as ending:
            if not asked.keep:
                ending.callback(shutil.rmtree, folder, ignore_errors=True)
            return _run(asked, seed, folder, say)
    except KeyboardInterrupt:
        say("stopped: everything is ended, and nothing was judged")
        return INTERRUPTED
    finally:
        if asked.keep:
            say(f"journals, ledgers and logs are kept in {folder}")


def _run(
    asked: argparse.Namespace,
    seed: int,
    folder: Path,
    say: Callable[[str], None],
) -> int:
    wanted = asked.faults.split(",") if asked.faults else [*BY_NAME, *UP_KINDS]
    kinds = [kind for kind in wanted if kind in BY_NAME]
    ups = [kind for kind in wanted if kind in UP_KINDS]
    seconds = asked.minutes * 60
    calm = min(CALM_SECONDS, CALM_SHARE * seconds)
    faults = schedule(seed, seconds, kinds, asked.every, calm) if kinds else []
    if "@" in asked.faults:
        faults = placed(wanted)
    verdict, begun = Verdict(), time.time()
    asked.out.mkdir(parents=True, exist_ok=True)
    if faults:
        verdict, begun = _main_part(asked, seed, folder, faults, say)
        picture(asked.out / "chaos.svg", seed, folder, faults, begun)
    if ups:
        more, part = upside.go(folder / "up", seed, ups * 2, begun, say)
        faults += [replace(fault, number=len(faults) + fault.number) for fault in more]
        verdict.add(part)
    if set(wanted) == {ROLLING}:
        smooth(verdict, faults, begun)
    told = table(seed, verdict, faults, begun)
    print(told)
    (asked.out / "chaos.txt").write_text(told + "\n")
    write_json(asked.out / "chaos.json", seed, faults, verdict)
    return int(_failed(verdict))


def _main_part(
    asked: argparse.Namespace,
    seed: int,
    folder: Path,
    faults: list[Fault],
    say: Callable[[str], None],
) -> tuple[Verdict, float]:
    """Everything but `up` itself; returns the verdict and time zero."""
    length = max([fault.end for fault in faults] + [asked.minutes * 60])
    if {fault.kind for fault in faults} != {ROLLING}:
        faults += last_act(length, len(faults))
    with ExitStack() as ending:
        stage = Stage(folder, seed, ending, say)
        stage.start_workers(asked.workers)
        stage.start_strategies(asked.strategies, length, asked.rate)
        operator = stage.start_operator()
        run = Run(stage, faults, asked.drain, say)
        try:
            run.go(until=length)
        finally:
            operator.end()
        if not stage.strategies_ended(60):
            say("a strategy did not end")
        say("everything is healed; waiting for the rest")
        if not run.drain():
            say(f"not drained within {asked.drain:g} s")
        messages = {str(m.message_id) for m in stage.telegram.standin.messages}
        stage.keep_logs()
        return judge(gather(folder, stage.postgres.url()), messages), run.begun


def _failed(verdict: Verdict) -> bool:
    return verdict.signals == 0 or any(verdict.counts.values())


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults come")
    parser.add_argument("--seed", type=int, help="of faults and signals; else one by chance")
    parser.add_argument("--rate", type=float, default=20.0, help="calls of strategies a second")
    parser.add_argument("--every", type=float, default=12.0, help="seconds between faults")
    parser.add_argument("--drain", type=float, default=180.0, help="seconds at most at the end")
    parser.add_argument("--workers", type=int, default=2, help="deliver workers")
    parser.add_argument("--strategies", type=int, default=3)
    parser.add_argument("--faults", default="", help=FAULTS_HELP)
    parser.add_argument("--keep", action="store_true", help="keep journals, ledgers and logs")
    parser.add_argument("--out", type=Path, default=Path("build"), help="where the report goes")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
