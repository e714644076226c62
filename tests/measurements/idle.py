"""What processes cost that have nothing to do: their processor time, in percent of one core.

    python -m tests.measurements.idle [seconds]

A whole stack's processes on servers of their own, one endpoint, nothing enqueued, watched for half
a minute (or so many seconds) once all are ready.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

from signalpost.database import migrate, sync_engine
from tests import rows, stack
from tests.engines import KEY
from tests.processes import Program, signalpost

ROLES = {"deliver": "ready", "ops": "ready", "beat": "beat: Starting"}
SETTLE_SECONDS = 5.0


def used(pid: int) -> float:
    """Seconds of processor time that a process and its children have used."""
    one = psutil.Process(pid)
    every = [one, *one.children(recursive=True)]
    return sum(sum(each.cpu_times()[:2]) for each in every)


def main(seconds: float = 30.0) -> None:
    """Watch, and print a line for each process."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as ends:
        folder = Path(name)
        postgres = stack.postgres_in(folder, durable=True)
        redis = stack.redis_in(folder, durable=True)
        ends.callback(stack.stop_all)
        migrate(postgres.url())
        engine = sync_engine(postgres.url())
        with engine.begin() as connection:
            rows.add_endpoint(connection)
        engine.dispose()
        environment = {
            "DATABASE_URL": postgres.url(),
            "REDIS_URL": redis.url(),
            "SECRET_KEYS": KEY,
        }
        pids = {}
        for role, line in ROLES.items():
            argv = signalpost("worker", "--role", role)
            program = ends.enter_context(Program(argv, env=environment, cwd=folder))
            program.wait_for_line(line)
            pids[role] = program.pid
        time.sleep(SETTLE_SECONDS)
        before, began = {role: used(pid) for role, pid in pids.items()}, time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - began
        for role, pid in pids.items():
            print(f"{role:8} {(used(pid) - before[role]) / passed * 100:5.2f} % of a core")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
