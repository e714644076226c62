from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.cli.operators import Operator
from tests.processes import clean_environment, signalpost


def completed(operator: Operator, *words: str, **more: str) -> list[str]:
    """What bash would offer for the last of these words."""
    shown = asked(
        operator,
        _SIGNALPOST_COMPLETE="bash_complete",
        COMP_WORDS=" ".join(["signalpost", *words]),
        COMP_CWORD=str(len(words)),
        **more,
    )
    return [line.removeprefix("plain,") for line in shown if line]


def asked(operator: Operator, **more: str) -> list[str]:
    """The lines that the command answers to a shell that asks by these variables."""
    shown = operator.run(**more)
    assert (shown.exit_code, shown.stderr) == (0, "")
    return shown.stdout.splitlines()


def spoken(command: list[str]) -> str:
    """What a shell with signalpost on its PATH writes."""
    folder = Path(signalpost()[0]).parent
    environment = clean_environment()
    return subprocess.run(
        command,
        env={**environment, "PATH": f"{folder}:{environment['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_commands_statuses_and_endpoints_are_completed(bystander: Operator) -> None:
    """A shell offers what begins so: commands, statuses, and endpoints as the database has them."""
    assert completed(bystander, "rep") == ["replay"]
    assert completed(bystander, "deliveries", "list", "--status", "de") == ["delivered", "dead"]
    assert completed(bystander, "cancel", "--endpoint", "d") == ["desk"]
    assert completed(bystander, "endpoint", "show", "d") == ["desk"]
    assert completed(bystander, "cancel", "--endpoint", "x") == []


def test_a_database_that_is_away_spoils_no_line(bystander: Operator) -> None:
    """Without a database there are no names to offer, and nothing is written."""
    nowhere = "postgresql://me@127.0.0.1:1/none"

    assert completed(bystander, "cancel", "--endpoint", "d", DATABASE_URL=nowhere) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(bystander: Operator, shell: str) -> None:
    """The script names the command and the variable by which it asks."""
    shown = bystander.run("completion", shell)

    assert shown.exit_code == 0
    assert f"_SIGNALPOST_COMPLETE={shell}_complete" in shown.stdout


def test_zsh_and_fish_ask_in_their_own_way(bystander: Operator) -> None:
    """Both get the commands with a word on each, and the endpoints that the database has."""
    zsh = {
        "_SIGNALPOST_COMPLETE": "zsh_complete",
        "COMP_WORDS": "signalpost rep",
        "COMP_CWORD": "1",
    }
    fish = {
        "_SIGNALPOST_COMPLETE": "fish_complete",
        "COMP_WORDS": "signalpost",
        "COMP_CWORD": "rep",
    }
    assert asked(bystander, **zsh)[:2] == ["plain", "replay"]
    assert asked(bystander, **fish)[0].startswith("plain,replay")

    zsh |= {"COMP_WORDS": "signalpost endpoint show d", "COMP_CWORD": "3"}
    fish |= {"COMP_WORDS": "signalpost endpoint show", "COMP_CWORD": "d"}
    assert asked(bystander, **zsh)[:2] == ["plain", "desk"]
    assert asked(bystander, **fish)[0].startswith("plain,desk")


def test_zsh_can_load_its_script(bystander: Operator, tmp_path: Path) -> None:
    """After loading the script as the help says, zsh knows how to complete the command."""
    script = tmp_path / "completion.zsh"
    script.write_text(bystander.run("completion", "zsh").stdout)
    zsh = shutil.which("zsh") or pytest.skip("no zsh on this machine")
    told = 'autoload -Uz compinit && compinit -D && eval "$(cat $1)" && print $_comps[signalpost]'

    assert spoken([zsh, "-f", "-c", told, "zsh", str(script)]) == "_signalpost_completion"


def test_fish_can_load_its_script(bystander: Operator, tmp_path: Path) -> None:
    """From a file in its folder for completions, fish offers what the command answers."""
    script = tmp_path / "completion.fish"
    script.write_text(bystander.run("completion", "fish").stdout)
    fish = shutil.which("fish") or pytest.skip("no fish on this machine")

    told = f"source {script}; complete -C 'signalpost rep'"
    assert spoken([fish, "--no-config", "-c", told]).startswith("replay")


def test_bash_can_load_its_script(bystander: Operator, tmp_path: Path) -> None:
    """After loading the script, bash knows how to complete the command."""
    script = tmp_path / "completion.bash"
    script.write_text(bystander.run("completion", "bash").stdout)

    bash = shutil.which("bash")
    assert bash is not None
    shown = subprocess.run(
        [bash, "--norc", "-c", f". {script} && complete -p signalpost"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "-F _signalpost_completion signalpost" in shown.stdout
