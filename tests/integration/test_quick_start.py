"""docs/quick-start.md, walked from its first line to its last, as a new user does."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from signalpost.embedded.launching import free_port
from tests.integration.cli.operators import Operator
from tests.pages import ROOT, blocks
from tests.processes import Program, clean_environment, signalpost, wait_for
from tests.shell import Line, lines

PAGE = "docs/quick-start.md"
# What a line of the page must show; what is not here must just end well.
SHOWS = {
    "signalpost send signals.jsonl": r"1 delivered",
    "signalpost deliveries list": r"desk +delivered",
    "sed ": r"ended: 1 dead",
    "signalpost deliveries list --status dead": r"IBM.* dead",
    "signalpost deliveries show ID": r"attempts",
    "signalpost endpoint test": r"200 .*has verified the signature",
}
FAILS = ("sed ",)


class Walk:
    """A reader with three terminals, who types what the page shows."""

    def __init__(self, folder: Path, ending: ExitStack) -> None:
        self.operator = Operator(folder, "", None)
        self.operator.environment = {"XDG_DATA_HOME": str(folder / "nothing")}
        self.ending = ending
        self.port = str(free_port())
        self.stack: Program | None = None
        self.receiver: Program | None = None

    def take(self, line: Line) -> str:
        """Do what the line says; returns what it showed."""
        if line.words[0] in ("make", "source"):
            # The installation is that of the tests; the names must be the Makefile's.
            name = line.words[1].removesuffix("/bin/activate")
            assert re.search(rf"^({name}:|VENV +\?= {name}$)", MAKEFILE, re.MULTILINE), line.text
            return ""
        if line.words[0] == "cd":
            self.operator.folder = (self.operator.folder / line.words[1]).resolve()
            return ""
        if line.words[:2] == ("signalpost", "up"):
            self.stack = self._start(line, r"deliver-1.* ready", "--workers", "1")
            return ""
        if line.words[:2] == ("signalpost", "receiver"):
            self._end(self.receiver)
            self.receiver = self._start(line, r"listening on", "--port", self.port)
            return ""
        if line.words[0] == "rm":
            self._end(self.receiver)
            self._end(self.stack)
        return self._shell(line)

    def _start(self, line: Line, ready: str, *more: str) -> Program:
        program = self.ending.enter_context(self.operator.program(*line.words[1:], *more))
        program.wait_for_line(ready, 60)
        return program

    def _end(self, program: Program | None) -> None:
        if program is not None:
            program.send(signal.SIGINT)
            assert program.wait(60) == 0, program.output

    def _shell(self, line: Line) -> str:
        if line.plain and line.words[0] == "signalpost":
            words = (self._meant(word) for word in line.words[1:])
            result = self.operator.run(*words)
            assert result.exit_code == 0, f"{line.text}\n{result.output}"
            return result.output
        environment = {**clean_environment(), **self.operator.environment}
        folder = Path(signalpost()[0]).parent
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line.text],  # noqa: S607 - the reader's own shell
            env={**environment, "PATH": f"{folder}:{environment['PATH']}"},
            cwd=self.operator.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        shown = done.stdout + done.stderr
        assert done.returncode == int(line.text.startswith(FAILS)), f"{line.text}\n{shown}"
        return shown

    def _meant(self, word: str) -> str:
        if word == "ID":
            [dead] = self.operator.json("deliveries", "list", "--instrument", "IBM")
            return str(dead["delivery_id"])[:8]
        return word.replace(":8000/", f":{self.port}/")


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    with ExitStack() as ending:
        yield Walk(tmp_path, ending)


def test_the_quick_start_leads_to_a_replayed_delivery(walk: Walk) -> None:
    """Each line does what the page says: delivered, refused, found out why, mended, replayed."""
    for block in blocks("sh", page=PAGE):
        for line in lines(block.text):
            shown = walk.take(line)
            expected = max((s for s in SHOWS if line.text.startswith(s)), key=len, default="")
            assert re.search(SHOWS.get(expected, ""), shown), f"{line.text}\n{shown}"
            if line.text.startswith("signalpost replay"):
                assert walk.receiver is not None
                walk.receiver.wait_for_line(r"201 accepted", 30)

                def delivered() -> bool:
                    [found] = walk.operator.json("deliveries", "list", "--instrument", "IBM")
                    return bool(found["status"] == "delivered")

                wait_for(delivered, 30, "the replayed delivery")
    assert walk.stack is not None
    assert re.search(r"ALERT Dead letter: IBM buy", walk.stack.output)
    assert not (walk.operator.folder / "first-steps").exists()
