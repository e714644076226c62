"""Shows that the suite can fail: each mutation, in a scratch copy, must raise its own count.

`python -m tests.chaos.mutations [NAME ...]`; a few minutes each, so no part of `make test`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("app", "worker", "migrations", "tests", "docs", "pyproject.toml", "alembic.ini")


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is changed in which file, the faults that bring it out, and the count that must rise."""

    name: str
    file: str
    before: str
    after: str
    faults: str
    count: str


MUTATIONS = (
    Mutation(
        "no rescue",
        "app/signalpost/engine.py",
        "    async def _rescue(self) -> None:\n",
        "    async def _rescue(self) -> None:\n        return\n",
        "kill_redis_lose_data",
        "lost",
    ),
    Mutation(
        "no claim id in the record",
        "app/signalpost/core/lifecycle.py",
        "    if standing.status is Status.SENDING and standing.claim_id == claim_id:\n",
        "    if standing.status is Status.SENDING:\n",
        "freeze_deliver,receiver_timeout",
        "duplicated",
    ),
    Mutation(
        "no last check",
        "app/signalpost/dispatch.py",
        "    def _last_check(self, flight: Flight) -> Failure | None:\n",
        "    def _last_check(self, flight: Flight) -> Failure | None:\n        return None\n",
        "link_postgres_slow",
        "late",
    ),
    Mutation(
        "no alert with an expired delivery",
        "app/signalpost/repository/records.py",
        'Status.EXPIRED: "expired"}',
        'Status.EXPIRED: "none"}',
        "receiver_error",
        "silent",
    ),
    Mutation(
        "a timeout is taken for a delivery",
        "app/signalpost/core/lifecycle.py",
        "    match verdict.outcome:\n",
        "    match verdict.outcome:\n"
        "        case Outcome.UNKNOWN:\n            return Decision(Status.DELIVERED)\n",
        "receiver_timeout",
        "wrong_status",
    ),
    Mutation(
        "the body is not the stored one",
        "app/signalpost/dispatch.py",
        "            body=claim.body,\n            timeout_seconds",
        '            body=claim.body + b" ",\n            timeout_seconds',
        "kill_deliver",
        "altered",
    ),
)


def tried(mutation: Mutation, seed: int, minutes: float) -> dict[str, int]:
    """The counts of a run of the mutated copy."""
    with tempfile.TemporaryDirectory(prefix="signalpost-mutation-") as scratch:
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(scratch, name), ignore=_caches)
            else:
                shutil.copy(source, scratch)
        mutated = Path(scratch, mutation.file)
        text = mutated.read_text()
        if text.count(mutation.before) != 1:
            raise SystemExit(f"{mutation.name}: {mutation.file} has changed; mend the mutation")
        mutated.write_text(text.replace(mutation.before, mutation.after))
        paths = [Path(scratch, "app"), Path(scratch, "worker"), Path(scratch)]
        argv = [sys.executable, "-m", "tests.chaos", f"--minutes={minutes}", f"--seed={seed}"]
        argv += [f"--faults={mutation.faults}", "--every=5", "--drain=30"]
        subprocess.run(
            argv,
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        counts: dict[str, int] = json.loads(Path(scratch, "build", "chaos.json").read_text())
        return counts


def _caches(_folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__"}


def main(names: Sequence[str]) -> int:
    """Try those named, or all; 1 where one was not noticed."""
    missed = 0
    for mutation in MUTATIONS:
        if names and mutation.name not in names:
            continue
        counts = tried(mutation, seed=1, minutes=0.6)
        rose = counts[mutation.count]
        missed += not rose
        told = "noticed" if rose else "NOT NOTICED"
        print(f"{mutation.name:<36} {mutation.count:<13} {rose:>5}  {told}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
