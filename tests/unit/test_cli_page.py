from __future__ import annotations

from pathlib import Path

import click
import pytest

from signalpost.cli.program import root
from tests.unit.test_cli_program import commands

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("path", "command"), commands(root))
def test_the_page_names_every_command_and_option(
    path: tuple[str, ...], command: click.Command
) -> None:
    """docs/command-line.md leaves out no command and none of its options."""
    options = [option for parameter in command.params for option in parameter.opts]
    wanted = [option for option in options if option.startswith("--")]
    if not isinstance(command, click.Group):
        wanted.append(f"`{' '.join(path)}")

    assert [word for word in wanted if word not in PAGE] == []


def test_the_page_names_no_option_that_is_not_there() -> None:
    """An option that the page speaks of is one of some command's."""
    known = {
        option
        for _, command in commands(root)
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    spoken = {word.strip("`|,.;:()") for word in PAGE.split() if word.strip("`(").startswith("--")}

    assert spoken - known - {"--help"} == set()
