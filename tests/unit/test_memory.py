"""Where test servers keep their data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.memory import PREFIX, data_folder


def test_a_killed_runs_folder_is_removed_by_the_next(tmp_path: Path) -> None:
    """Memory that a killed run left behind is given back, a living run's is let be."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f"{PREFIX}{ended.pid}-x"
    living = tmp_path / f"{PREFIX}{os.getppid()}-x"
    left.mkdir()
    living.mkdir()
    with data_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert not left.exists()
        assert living.exists()
    assert not folder.exists()
