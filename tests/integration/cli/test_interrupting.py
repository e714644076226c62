from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from signalpost.cli.roles import celery_argv
from tests.processes import Program

COMMAND = [sys.executable, "-c", "import sys; from signalpost.cli import main; sys.exit(main())"]


@pytest.mark.parametrize(
    ("argv", "module", "code"),
    [
        ([*COMMAND, "status", "--watch"], "click", 130),
        # A shell shows 130 for this end as well.
        (celery_argv("beat"), "celery", -signal.SIGINT),
        (celery_argv("flower"), "celery", -signal.SIGINT),
    ],
    ids=["command", "beat", "flower"],
)
def test_ctrl_c_before_the_start_is_quiet(
    argv: Sequence[str], module: str, code: int, tmp_path: Path
) -> None:
    """Ctrl-C while a program is still being loaded ends it without a traceback."""
    settings = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
    program, *words = argv
    with Program([program, "-X", "importtime", *words], env=settings, cwd=tmp_path) as loading:
        loading.wait_for_line(rf"\| +{module}\.", 30)
        loading.send(signal.SIGINT)
        ended = loading.wait(20)

    said = [line for line in loading.lines if not line.startswith("import time:")]
    assert (ended, said) == (code, [])
