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
from pathlib import Path

from tests.chaos.verdict import FINDINGS
from tests.chaos.weaknesses import CONTROL, MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
COPIED = ("app", "worker", "migrations", "tests", "docs", "pyproject.toml", "alembic.ini")


def tried(mutation: Mutation, seed: int) -> dict[str, int]:
    """The counts of a run of the mutated copy."""
    with tempfile.TemporaryDirectory(prefix="signalpost-mutation-") as scratch:
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(scratch, name), ignore=_caches)
            else:
                shutil.copy(source, scratch)
        for change in mutation.changes:
            mutated = Path(scratch, change.file)
            text = mutated.read_text()
            if text.count(change.before) != 1:
                raise SystemExit(f"{mutation.name}: {change.file} has changed; mend the mutation")
            mutated.write_text(text.replace(change.before, change.after))
        paths = [Path(scratch, "app"), Path(scratch, "worker"), Path(scratch)]
        argv = [sys.executable, "-m", "tests.chaos", f"--seed={seed}", "--rate=10"]
        argv += [f"--minutes={mutation.minutes}", f"--faults={mutation.faults}"]
        argv += ["--drain=45", "--strategies=2"]
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
        counts = tried(mutation, seed=1)
        found = {kind: counts[kind] for kind in FINDINGS if counts[kind]}
        as_hoped = not found if mutation is CONTROL else mutation.count in found
        missed += not as_hoped
        told = "as it must be" if as_hoped else "NOT NOTICED"
        print(f"{mutation.name:<36} {mutation.count or 'none':<13} {told}: {found}", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
