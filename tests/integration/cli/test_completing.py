from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.cli.operators import Operator
from tests.processes import clean_environment, signalpost


def completed(operator: Operator, *words: str, **more: str) -> list[str]:
    """What bash would offer for the last of these words."""
    environment = {
        **operator.environment,
        "_SIGNALPOST_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["signalpost", *words]),
        "COMP_CWORD": str(len(words)),
        **more,
    }
    shown = subprocess.run(
        signalpost(),
        env={**clean_environment(), **environment},
        cwd=operator.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""
    return [line.removeprefix("plain,") for line in shown.stdout.splitlines() if line]


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
