"""The documentation builds, every link and docstring of it, as `make docs` does it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import signalpost.direct
import signalpost.receiver
from tests.processes import clean_environment

ROOT = Path(__file__).parents[2]


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    """Every page is in the side bar, every link leads somewhere, every public name shows.

    It stands here and not in `make check`, which runs at every change and shall stay quick.
    """
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", ".", tmp_path],
        cwd=ROOT,
        env={**clean_environment(), "PRIVATE_TO_THE_BUILDER": "of-the-environment"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (built.returncode, built.stderr) == (0, "")
    reference = (tmp_path / "docs" / "reference.html").read_text(encoding="utf-8")
    assert 'id="signalpost.Producer.enqueue_in"' in reference
    shown = set(re.findall(r'id="(signalpost[\w.]+)"', reference))
    for door in (signalpost, signalpost.direct, signalpost.receiver):
        assert {f"{door.__name__}.{name}" for name in door.__all__} - shown == set()
    assert "of-the-environment" not in reference
