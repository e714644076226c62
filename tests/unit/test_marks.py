"""How a process tells in its environment by what signal it wants to be ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from signalpost.embedded.marks import Ending, marks


def test_an_ending_survives_the_environment() -> None:
    """What one process writes about an ending, another reads back unchanged."""
    ending = Ending(tier=0, number=signal.SIGINT, grace_seconds=2.5)

    assert Ending.read(str(ending)) == ending


@pytest.mark.parametrize("text", ["", "1", "a:b:c", "1:15", "1:15:2:3"])
def test_a_damaged_ending_is_an_ordinary_one(text: str) -> None:
    """A mark that cannot be read must not keep a process alive: SIGTERM, then SIGKILL."""
    assert Ending.read(text) == Ending()


def test_marks_name_one_folder() -> None:
    """Two spellings of one folder give the same mark, two folders do not."""
    ending = Ending()

    assert marks(Path("/data/a/../b"), ending) == marks(Path("/data/b"), ending)
    assert marks(Path("/data/a"), ending) != marks(Path("/data/b"), ending)


# Again and again a parent ends while its child looks at who its ancestors are.
_ORPHANED = """
import os, sys, time
from signalpost.embedded.marks import lineage

for _ in range(int(sys.argv[1])):
    hears, tells = os.pipe()
    parent = os.fork()
    if not parent:
        parent = os.getpid()
        if os.fork():
            time.sleep(0.003)
            os._exit(0)
        try:
            while os.getppid() == parent:
                lineage()
        except Exception as error:
            os.write(tells, repr(error).encode())
        os._exit(0)
    os.close(tells)
    os.waitpid(parent, 0)
    if found := os.read(hears, 1000):
        sys.exit(found.decode())
    os.close(hears)
"""


def test_who_looks_while_its_parent_ends_looks_on() -> None:
    """A warden's first look falls into its owner's end, and must not fail by it."""
    done = subprocess.run(
        [sys.executable, "-c", _ORPHANED, "200"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
