"""`signalpost demo` as a newcomer runs it: everything real, and nothing left behind."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from signalpost.embedded.marks import marked
from tests.processes import Program, signalpost, wait_for

# The whole replay takes half a minute on an idle machine.
pytestmark = pytest.mark.timeout(170)


def _demo(tmp_path: Path, *arguments: str) -> Program:
    # What the caller has set, in the environment or in a file, must not reach the demo.
    (tmp_path / ".env").write_text("OUTBOUND_SERVER_URL=https://real-desk.example/signals\n")
    return Program(
        signalpost("demo", *arguments),
        env={"MAX_RETRIES": "0", "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
    )


def test_the_demo_shows_all_and_both_sides_agree(tmp_path: Path) -> None:
    """The demo delivers, retries, rejects, gives up and alerts, agrees, and leaves nothing."""
    with _demo(tmp_path) as program:
        assert program.wait(160) == 0, program.output

    text = program.output
    assert re.search(r"^signals +310,", text, re.MULTILINE), text
    for row in (
        r"desk +310 +309 +1 rejected +0 +\d+ +\d+",
        r"faraway +11 +0 +[1-9]\d* exhausted +[1-9]\d* +\d+ +\d+",
        r"journal +310 +310 +0 +0 +310 +0",
    ):
        assert re.search(rf"^ *{row} *$", text, re.MULTILINE), text
    for line in (
        "a request with a forged signature was refused with 401",
        "desk is out of order and answers 503",
        "desk is back",
        "that had failed there were retried and answered",
        "faraway: the first delivery has used up its retries",
        "faraway: its breaker is open; the first that waited has expired",
        "the first alert has arrived at the Bot API",
        "ok    the strategy, signalpost, the receiver and the Bot API agree on every delivery",
        "ok    nothing private found in",
    ):
        assert line in text, text
    assert re.search(r"Dead letter: \w+ (buy|sell)", text), text
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_ctrl_c_in_the_middle_ends_everything(tmp_path: Path) -> None:
    """Interrupted while signals are under way, the demo ends all its processes and its folder."""
    with _demo(tmp_path) as program:
        program.wait_for_line("first signal verified and accepted", 60)
        program.send(signal.SIGINT)
        assert program.wait(30) == 130, program.output

    assert "interrupted; ending everything" in program.output
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    """After kill -9 of the demo every process that it had started is gone within seconds."""
    with _demo(tmp_path) as program:
        program.wait_for_line("first signal verified and accepted", 60)
        program.kill()

    [folder] = tmp_path.glob("signalpost-demo-*")
    wait_for(lambda: not marked(folder), 30, "the end of every process")


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """The demo never mixes its signals with what is in a folder already, and says so."""
    with _demo(tmp_path, "--data", str(tmp_path)) as program:
        assert program.wait(30) == 1

    assert program.lines == [
        f"signalpost: {tmp_path} is not empty; the demo wants a folder of its own"
    ]
