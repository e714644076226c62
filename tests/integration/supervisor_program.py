"""Supervises the children described by the JSON of its first argument, as `signalpost up` does.

A program for test_supervisor.py. Each child: name, code (Python), and optional grace_seconds,
stage. The second argument, where there is one, is a folder whose warden watches over them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from signalpost.core.backoff import Backoff
from signalpost.embedded import Warden
from signalpost.embedded.restarts import Restarts
from signalpost.supervisor import Child, PrefixedLines, Supervisor


def main() -> int:
    children = [
        Child(
            name=told["name"],
            argv=told.get("argv") or [sys.executable, "-c", told["code"]],
            env={"GREETING": "hello"},
            grace_seconds=told.get("grace_seconds", 10.0),
            stage=told.get("stage"),
        )
        for told in json.loads(sys.argv[1])
    ]
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    warden = Warden(folder, folder / "warden.log") if folder else None
    log = folder / "up.log" if folder else None
    with PrefixedLines(sys.stdout, environ=os.environ, width=4, log_file=log) as lines:
        supervisor = Supervisor(
            children,
            lines=lines,
            marks=warden.marks if warden else lambda _: {},
            restarts=lambda: Restarts(Backoff(0.05, 0.4, jitter=0)),
        )
        code = supervisor.run()
        lines.write("up", f"all ended, {len(supervisor.pids)} left")
    if warden:
        warden.close()
    return code


if __name__ == "__main__":
    sys.exit(main())
