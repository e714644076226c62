"""The workers of the demo: the same processes that `signalpost up` runs, their lines in a log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from signalpost.cli.stack import stack_children
from signalpost.embedded import Stack
from signalpost.supervisor import PrefixedLines, Supervisor

__all__ = ["DELIVER_WORKERS", "start_workers"]

DELIVER_WORKERS = os.cpu_count() or 1
GRACE_SECONDS = 10.0


def start_workers(
    stack: Stack, settings: Mapping[str, str], *, log: Path, ending: ExitStack
) -> list[str]:
    """Start a deliver worker for each core, the ops worker, beat and Flower; return their names."""
    children = [
        replace(child, env={**settings, **child.env})
        for child in stack_children(stack.info, workers=DELIVER_WORKERS, grace=GRACE_SECONDS)
    ]
    silence = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - ending closes it
    ending.callback(silence.close)
    lines = ending.enter_context(PrefixedLines(silence, environ=settings, log_file=log))
    supervisor = Supervisor(children, lines=lines, marks=stack.marks, name="demo")
    ending.callback(supervisor.stop)
    supervisor.start()
    return [child.name for child in children]
