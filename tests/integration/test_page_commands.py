"""Every shell block of README and docs is run, line by line, against servers of its own.

`signalpost ...` runs in this process, or as a process where it serves until it is told to end;
what a name or an id stands for is made first (page_world.py). Other programs are in `OTHERS`, with
what is looked at instead where a line cannot be run here.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.databases import cloned
from tests.integration.cli.operators import Operator
from tests.integration.page_world import Accepting, World
from tests.pages import ROOT, Block, blocks
from tests.processes import clean_environment, signalpost
from tests.shell import Line, lines

# Pages that are one story, told by a test of their own.
STORIES: dict[str, str] = {}


@pytest.fixture(scope="module")
def accepting() -> Iterator[str]:
    receiver = Accepting()
    yield receiver.url
    receiver.close()


@pytest.fixture
def world(
    tmp_path: Path, postgres_server: str, migrated_template: str, redis_url: str, accepting: str
) -> Iterator[World]:
    with (
        cloned(postgres_server, migrated_template) as url,
        World(Operator(tmp_path, url, redis_url), accepting) as made,
    ):
        yield made


def _is_a_target(line: Line) -> None:
    """`make`: each target is in the Makefile. What it does is a test's or a check's own."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [word for word in line.words[1:] if "=" not in word]
    assert set(named) <= targets, line.text


def _is_a_module(line: Line) -> None:
    """`python -m`: the module is there. The measurements take minutes."""
    assert line.words[1] == "-m", line.text
    assert find_spec(line.words[2]) is not None, line.text


def _is_of_the_compose_file(line: Line) -> None:
    """`docker compose`: its services are the file's, and a command in one is run here."""
    assert line.words[1] == "compose", line.text
    _, _, after = (ROOT / "docker-compose.yml").read_text().partition("\nservices:\n")
    services = re.findall(
        r"^  ([a-z-]+):$", re.split(r"^\S", after, flags=re.MULTILINE)[0], re.MULTILINE
    )
    known = {
        "up",
        "down",
        "run",
        "exec",
        "logs",
        "ps",
        "build",
        "restart",
        "stop",
        "pull",
        "config",
    }
    action, *rest = (word for word in line.words[2:] if not word.startswith("-"))
    assert action in known, line.text
    for word in rest:
        if word == "signalpost":
            break
        assert word.partition("=")[0] in services, line.text


# By program: what is held of a line that is not run as it stands, and in its docstring, why.
OTHERS: dict[str, Callable[[Line], None]] = {
    "make": _is_a_target,
    "python": _is_a_module,
    "docker": _is_of_the_compose_file,
}


@pytest.mark.parametrize("block", [b for b in blocks("sh") if b.page not in STORIES], ids=str)
def test_every_command_of_the_pages_runs(block: Block, world: World) -> None:
    """Each line of the block does what it says, in order, and what serves ends well on Ctrl-C."""
    for line in lines(block.text):
        if not line.plain:
            _run_by_a_shell(line, world)
        elif line.words[0] == "signalpost":
            world.run(line)
        else:
            assert line.words[0] in OTHERS, f"nobody runs `{line.text}`"
            OTHERS[line.words[0]](line)
    world.wait_until_all_serve()
    world.end_what_serves()


def _run_by_a_shell(line: Line, world: World) -> None:
    folder = Path(signalpost()[0]).parent
    environment = {**clean_environment(), **world.operator.environment}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line.text],  # noqa: S607 - the reader's own shell
        env={**environment, "PATH": f"{folder}:{environment['PATH']}"},
        cwd=world.operator.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line.text}\n{done.stdout}{done.stderr}"
