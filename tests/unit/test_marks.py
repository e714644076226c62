"""How a process tells in its environment by what signal it wants to be ended."""

from __future__ import annotations

import signal
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
