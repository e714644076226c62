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
STORIES = {"docs/quick-start.md": "tests/integration/test_quick_start.py"}


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


def _is_a_target(line: Line, _: World) -> None:
    """`make`: each target is in the Makefile. What it does is a test's or a check's own."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [word for word in line.words[1:] if "=" not in word]
    assert set(named) <= targets, line.text


def _is_a_module(line: Line, _: World) -> None:
    """`python -m`: the module is there. The measurements take minutes."""
    assert line.words[1] == "-m", line.text
    assert find_spec(line.words[2]) is not None, line.text


def _is_of_the_compose_file(line: Line, world: World) -> None:
    """`docker compose`: services and profiles are the file's; a command in a service is run here.

    test_compose.py holds the file itself to its schema, and starts what its services start.
    """
    file = (ROOT / "docker-compose.yml").read_text()
    services = re.findall(r"^  ([a-z-]+):$", file.partition("\nservices:\n")[2], re.MULTILINE)
    words = list(line.words[2:])
    for option, known in (
        ("--profile", re.findall(r"profiles: \[(\w+)\]", file)),
        ("--scale", services),
    ):
        while option in words:
            place = words.index(option)
            assert words[place + 1].partition("=")[0] in known, line.text
            del words[place : place + 2]
    action, *rest = (word for word in words if not word.startswith("-"))
    assert (line.words[1], action in COMPOSE_ACTIONS) == ("compose", True), line.text
    for place, word in enumerate(rest):
        if word == "signalpost":
            inside = " ".join(rest[place:])
            world.run(next(lines(inside)))
            return
        assert word in services, line.text


COMPOSE_ACTIONS = {"up", "down", "run", "exec", "logs", "ps", "build", "restart", "stop", "pull"}


def _run_by_a_shell(line: Line, world: World) -> None:
    """By bash itself, in the world's folder, with the installed `signalpost` at hand."""
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


# By program: what is done with its line; a docstring above says why, where it is not simply run.
OTHERS: dict[str, Callable[[Line, World], None]] = {
    "cp": _run_by_a_shell,
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
            OTHERS[line.words[0]](line, world)
    world.wait_until_all_serve()
    world.end_what_serves()
