"""The demo from beginning to end: `signalpost demo`."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from signalpost.demo.progress import Progress, standing
from signalpost.demo.report import print_report
from signalpost.demo.scenario import Scenario
from signalpost.demo.stage import Stage
from signalpost.demo.story import Storyteller
from signalpost.errors import SignalpostError

__all__ = ["run_demo"]

LONGEST_SECONDS = 120.0
LOOK_EVERY_SECONDS = 0.4


def run_demo(
    *,
    data: Path | None = None,
    keep: bool = False,
    console: Console | None = None,
    scenario: Scenario | None = None,
) -> int:
    """Run the demo in this terminal; Ctrl-C ends it and all that it started at any moment.

    Args:
        data: a new or empty folder for the servers, which stays; else a temporary one, which goes.
        keep: leave everything running at the end, until Ctrl-C.
        console: where to write; standard output by default.
        scenario: the course of events.

    Returns:
        0 where both sides agree and nothing private was found anywhere, else 1; 130 interrupted.

    Raises:
        SignalpostError: something did not start.
    """
    console = console or Console()
    scenario = scenario or Scenario()
    with _ended_in_peace() as ending:
        folder = _Folder(data, ending)
        try:
            with Progress(console) as progress:
                stage = Stage(scenario, folder.path, progress, ending)
                stage.set_up()
                _watch(stage, progress)
                progress.show("holding both sides against each other")
                result = stage.result()
            print_report(console, result)
            if keep:
                _keep(stage, console)
        except KeyboardInterrupt:
            folder.may_go = True
            console.print("\ninterrupted; ending everything that was started", highlight=False)
            return 130
        folder.may_go = result.good
        if not result.good:
            console.print(f"\nwhat it left is in {folder.path}", highlight=False, soft_wrap=True)
    return 0 if result.good else 1


class _Folder:
    """The servers' folder; a temporary one goes at the end, unless somebody must look into it."""

    def __init__(self, data: Path | None, ending: ExitStack) -> None:
        if data is not None and data.exists() and any(data.iterdir()):
            raise SignalpostError(f"{data} is not empty; the demo wants a folder of its own")
        self.path = data or Path(tempfile.mkdtemp(prefix="signalpost-demo-"))
        self.may_go = False
        if data is None:
            ending.callback(self._remove)

    def _remove(self) -> None:
        if self.may_go:
            shutil.rmtree(self.path, ignore_errors=True)


def _watch(stage: Stage, progress: Progress) -> None:
    """Tell what happens until every delivery has ended and every alert has arrived."""
    storyteller = Storyteller()
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        over = stage.strategy_ended()
        evidence, ledger, alerts = stage.look()
        for turn in storyteller.turns(evidence, ledger, len(alerts)):
            progress.tell(turn)
        progress.show(standing(evidence, len(alerts)))
        if over and evidence.settled:
            return
        if time.monotonic() > deadline:
            progress.tell(f"not all has ended after {LONGEST_SECONDS:.0f} s; stopping here")
            return
        time.sleep(LOOK_EVERY_SECONDS)


def _keep(stage: Stage, console: Console) -> None:
    console.print("\nEverything stays up until Ctrl-C:", highlight=False)
    for name, value in stage.addresses().items():
        console.print(f"  {name:<11}{value}", highlight=False, soft_wrap=True)
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        console.print("\nending everything", highlight=False)


@contextmanager
def _ended_in_peace() -> Iterator[ExitStack]:
    """Collect what is to be ended. SIGTERM is a Ctrl-C; the ending itself is not interrupted."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with ExitStack() as ending:
            try:
                yield ending
            finally:
                for number in before:
                    signal.signal(number, signal.SIG_IGN)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
