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

from tests.chaos.verdict import FINDINGS

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


CONTROL = Mutation(
    "nothing is changed",
    "app/signalpost/clock.py",
    "CLOCK_TOLERANCE_SECONDS = 1.0\n",
    "CLOCK_TOLERANCE_SECONDS = 1.0\n",
    "kill_every_deliver,receiver_error,receiver_timeout,link_postgres_slow,clock_off",
    "",
)

MUTATIONS = (
    CONTROL,
    Mutation(
        "no rescue",
        "app/signalpost/sweeps.py",
        "    async def rescue(self) -> None:\n",
        "    async def rescue(self) -> None:\n        return\n",
        "kill_ops",
        "lost",
    ),
    Mutation(
        "no claim of the dead is taken back",
        "app/signalpost/vigil.py",
        "        if not self._lease.may_take_back:\n",
        "        if self._lease.may_take_back or not self._lease.may_take_back:\n",
        "link_receiver_slow,kill_every_deliver",
        "lost",
    ),
    Mutation(
        "acknowledged before it is recorded",
        "app/signalpost/dispatch.py",
        "        claim = flight.claim\n        flight.task",
        "        claim = flight.claim\n"
        "        from signalpost.core.outcomes import Phase as P\n"
        "        early = Answer(P.BODY, 0.0, status_code=200)\n"
        "        await self._records.put(self.judge(claim, early))\n"
        "        flight.task",
        "receiver_error,receiver_timeout",
        "wrong_status",
    ),
    Mutation(
        "no claim id in the record",
        "app/signalpost/core/lifecycle.py",
        "    if standing.status is Status.SENDING and standing.claim_id == claim_id:\n",
        "    if standing.status is Status.SENDING:\n",
        "link_receiver_slow,freeze_deliver",
        "duplicated",
    ),
    Mutation(
        "no last check",
        "app/signalpost/dispatch.py",
        "            timeout_seconds=timeout if life is None else min(timeout, life),\n"
        "            last_check=lambda: self._last_check(flight),\n",
        "            timeout_seconds=timeout,\n            last_check=lambda: None,\n",
        "link_postgres_slow,freeze_deliver",
        "late",
    ),
    Mutation(
        "no alert with an expired delivery",
        "app/signalpost/repository/recorded.py",
        'Status.EXPIRED: "expired"}',
        'Status.EXPIRED: "none"}',
        "receiver_error",
        "silent",
    ),
    Mutation(
        "alerts outside the transaction",
        "app/signalpost/repository/records.py",
        "        alerts = {row.id: row.alert_id for row in moved if row.alert_id is not None}\n",
        "        alerts = {row.id: row.alert_id for row in moved if row.alert_id is not None}\n"
        "        if alerts:\n"
        "            import threading\n"
        '            taken = text("DELETE FROM signalpost.alerts WHERE id = ANY(:ids) "\n'
        '                "RETURNING kind, delivery_id, endpoint_id")\n'
        '            told = connection.execute(taken, {"ids": list(alerts.values())}).all()\n'
        "            url = connection.engine.url\n"
        "            def later() -> None:\n"
        "                from sqlalchemy import create_engine\n"
        "                with create_engine(url).begin() as own:\n"
        "                    for row in told:\n"
        '                        own.execute(text("INSERT INTO signalpost.alerts "\n'
        '                            "(kind, delivery_id, endpoint_id) VALUES (:k, :d, :e)"),\n'
        '                            {"k": row[0], "d": row[1], "e": row[2]})\n'
        "            threading.Timer(0.5, later).start()\n"
        "            alerts = {}\n",
        "receiver_error,kill_every_deliver,kill_every_deliver",
        "silent",
    ),
    Mutation(
        "the order is not kept",
        "app/signalpost/repository/storing.py",
        "        CAST(:priority AS smallint), targets.ordered, "
        "CASE WHEN targets.ordered THEN 'new' END,\n",
        "        CAST(:priority AS smallint), false, NULL,\n",
        "receiver_error,link_receiver_refuse",
        "misordered",
    ),
    Mutation(
        "exits overtake their own key",
        "app/signalpost/repository/taking.py",
        "          AND o.status IN ('pending', 'sending') AND o.position < d.position))\"\"\"\n",
        '          AND false AND o.position < d.position))"""\n',
        "receiver_error,link_receiver_refuse",
        "misordered",
    ),
    Mutation(
        "pauses hold nothing",
        "app/signalpost/core/pausing.py",
        "        if high and self.entries_only:\n",
        "        if high or not high:\n",
        "kill_ops",
        "wrong_status",
    ),
    Mutation(
        "a clock that is off signs all the same",
        "app/signalpost/clock.py",
        "        return self.clock_off_seconds <= CLOCK_TOLERANCE_SECONDS\n",
        "        return True\n",
        "clock_off",
        "altered",
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
        argv += [f"--faults={mutation.faults}", "--every=5", "--drain=45", "--strategies=2"]
        argv += ["--rate=10"]
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
        counts = tried(mutation, seed=1, minutes=0.5)
        found = {kind: counts[kind] for kind in FINDINGS if counts[kind]}
        as_hoped = not found if mutation is CONTROL else mutation.count in found
        missed += not as_hoped
        told = "as it must be" if as_hoped else "NOT NOTICED"
        print(f"{mutation.name:<36} {mutation.count or 'none':<13} {told}: {found}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
