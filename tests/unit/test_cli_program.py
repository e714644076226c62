from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import click
import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from signalpost.cli import main
from signalpost.cli.explaining import explain
from signalpost.cli.program import root
from signalpost.cli.roles import QUEUES, ROLES, celery_argv, flower_environment
from signalpost.errors import NoEndpoint, SettingError


def commands(group: click.Group, *path: str) -> list[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found += commands(command, *path, name)
    return found


def test_the_first_screen_is_quick_and_light() -> None:
    """`--help` loads no database, no web server and no signal machinery."""
    code = (
        "import sys; from signalpost.cli import main; main(['--help']);"
        "print(sorted({'sqlalchemy', 'pydantic', 'celery', 'redis', 'httpx', 'uvicorn', 'rich'}"
        " & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert shown.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("path", "command"), commands(root))
def test_every_command_explains_itself(path: tuple[str, ...], command: click.Command) -> None:
    """Each command has help, and each that does something ends it with examples of its own."""
    assert command.help
    if not isinstance(command, click.Group):
        assert command.epilog
        assert "\nExamples:\n" in command.epilog
        assert f"signalpost {' '.join(path)}" in command.epilog


SPEAK_NO_JSON = {
    "demo": "it runs, and tells a story",
    "up": "it runs until Ctrl-C",
    "worker": "it becomes Celery",
    "receiver": "it runs until Ctrl-C",
    "completion": "its answer is a shell's script",
}


@pytest.mark.parametrize(("path", "command"), commands(root))
def test_every_command_that_answers_can_do_so_in_json(
    path: tuple[str, ...], command: click.Command
) -> None:
    """Whatever lists, shows or does something has --json, and --debug for a traceback."""
    if isinstance(command, click.Group):
        return
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--debug" in options
    assert ("--json" in options) != (path[0] in SPEAK_NO_JSON)


@pytest.mark.parametrize(("path", "command"), commands(root))
def test_every_option_says_what_it_is_for(path: tuple[str, ...], command: click.Command) -> None:
    """No option stands in a help without a word, unless its choices say it all."""
    silent = [
        parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Option)
        and not parameter.help
        and not isinstance(parameter.type, click.Choice)
        and not parameter.show_default
    ]
    assert silent == [], path


def test_wrong_usage_is_2_and_failure_1(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit codes are 0 well, 1 failed, 2 wrong usage; either is told in one line."""
    assert main(["--version"]) == 0
    assert main([]) == 2
    capsys.readouterr()
    assert main(["no-such-command"]) == 2
    assert main(["deliveries", "list", "--limit", "none"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "signalpost: No such command 'no-such-command' (see signalpost --help)",
        (
            "signalpost: Invalid value for '--limit': 'none' is no whole number "
            "(see signalpost deliveries list --help)"
        ),
    ]
    assert main(["send", "/nowhere/signals.jsonl", "--data", "/nowhere"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("signalpost: no stack runs in the data folder /nowhere")
    assert told.count("\n") == 1


def test_debug_shows_where_it_failed() -> None:
    """With --debug the error itself comes out."""
    with pytest.raises(SettingError):
        main(["status", "--data", "/nowhere", "--debug"])


def test_a_name_that_is_nearly_right_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped option names the one that was meant."""
    assert main(["replay", "4f1c9a52", "--dry"]) == 2
    assert "--dry-run" in capsys.readouterr().err


class _DriverError(Exception):
    pass


def database_error(text: str, kind: type[Any] = OperationalError) -> Exception:
    error: Exception = kind("SELECT secret_column", {"secret": "value"}, _DriverError(text))
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            database_error('connection failed: connection to server at "127.0.0.1", port 1 failed'),
            "PostgreSQL cannot be reached; see whether it is up and what DATABASE_URL says",
        ),
        (
            database_error('FATAL:  password authentication failed for user "u"'),
            "PostgreSQL refuses the password; correct DATABASE_URL",
        ),
        (
            database_error('relation "signalpost.signals" does not exist', ProgrammingError),
            "the tables are missing; run `signalpost migrate`",
        ),
        (
            database_error('database "x" does not exist'),
            "PostgreSQL has no such database or role; create it or correct the URL",
        ),
        (
            database_error("something else\nDETAIL: Failing row contains (private)"),
            "PostgreSQL refused a statement (_DriverError); see its log",
        ),
        (PoolTimeout(), "PostgreSQL did not give a connection in time"),
        (NoEndpoint("no\nendpoint"), "no endpoint"),
        (click.ClickException("as it is"), "as it is"),
        (PermissionError(13, "Permission denied", "x.jsonl"), "x.jsonl: Permission denied"),
        (
            UnicodeEncodeError("utf-8", "private \udcff", 8, 9, "surrogates"),
            "a word of the command",
        ),
        (KeyError("private"), "an error that should not happen (KeyError)"),
    ],
)
def test_every_error_becomes_one_line(error: Exception, told: str) -> None:
    """An error is told by cause and remedy, in one line, without statements or their values."""
    line = explain(error)

    assert line.startswith(told)
    assert "\n" not in line
    assert "secret" not in line
    assert "private" not in line


def test_the_roles_consume_what_is_theirs() -> None:
    """Deliver workers take deliveries, the ops worker alerts and upkeep, and names are unique."""
    deliver, again, ops = celery_argv("deliver"), celery_argv("deliver"), celery_argv("ops")

    assert deliver[deliver.index("--queues") + 1] == "deliver,drain"
    assert ops[ops.index("--queues") + 1] == "alerts,upkeep"
    assert deliver[deliver.index("--hostname") + 1] != again[again.index("--hostname") + 1]
    assert "threads" in deliver
    assert celery_argv("deliver", concurrency=3)[-1:] != []
    assert "3" in celery_argv("deliver", concurrency=3)
    assert set(QUEUES) <= set(ROLES)


def test_flower_is_closed_and_only_looks() -> None:
    """Flower binds the loopback interface, asks for a password, and controls nothing."""
    argv = celery_argv("flower")
    environment = flower_environment("me", "correct horse", port=1234)

    assert "--read_only=True" in argv
    assert not any("correct horse" in word for word in argv)
    assert environment == {
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": "1234",
        "FLOWER_BASIC_AUTH": "me:correct horse",
    }


def test_a_connection_broken_by_ctrl_c_is_no_traceback() -> None:
    """The pool, which would tell of it by one on standard error, is silent in a command."""
    main(["--version"])

    assert not logging.getLogger("sqlalchemy.pool").isEnabledFor(logging.ERROR)
