"""The `signalpost` command: its list of commands, and how each way of ending becomes an exit code.

A command's module is imported when the command is called, so that `--help` and completion answer
at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from signalpost.cli.explaining import explain
from signalpost.cli.interrupting import interrupted, interrupts_kept

__all__ = ["root", "run"]

_COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Start": {
        "demo": ("serving", "See it all at work in a minute, on servers of its own."),
        "up": ("stack", "Run the whole stack in this terminal."),
        "worker": ("serving", "Run one worker process of the stack."),
        "receiver": ("serving", "Run a local server that verifies what arrives."),
        "migrate": ("migrating", "Make or update the tables."),
    },
    "Set up and send": {
        "endpoint": ("endpoints", "Endpoints: add, show, set, pause, test, rotate-secret, remove."),
        "send": ("sending", "Enqueue signals from JSON lines."),
        "completion": ("completing", "Let a shell complete commands and names."),
    },
    "Look and act": {
        "status": ("status", "The whole system on one screen."),
        "doctor": ("doctor", "Look at all that a delivery needs, and say what to do."),
        "bench": ("benching", "Measure the running system, with signals of its own."),
        "health": ("health", "Ask a worker of this machine whether it is well."),
        "deliveries": ("deliveries", "Deliveries: list them, or tell the story of one."),
        "replay": ("replaying", "Put dead letters back to be sent."),
        "skip": ("skipping", "Let those go that wait behind a dead delivery."),
        "cancel": ("cancelling", "Withdraw deliveries before they are sent."),
        "pause": ("pausing", "Stop sending: everything, or a part of it."),
        "resume": ("pausing", "End a pause; says what would go out."),
        "audit": ("auditing", "The audit trail: who did what, when and why."),
        "alerts": ("alerts", "Alerts: list them, send them again, test that they arrive."),
    },
}


class _SeenEnough(Exception):
    """Whoever reads the output has closed the pipe; click would exit with 1 for it."""


class _Lazy(click.Group):
    """Knows its commands by name and help; imports one only to run it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise _SeenEnough from None
        return found

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return [name for section in _COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        for section in _COMMANDS.values():
            if cmd_name in section:
                module = import_module(f"signalpost.cli.{section[cmd_name][0]}")
                found: click.Command = getattr(module, cmd_name)
                return found
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            # It looks among the commands that are imported, of which there are none.
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=self.list_commands(ctx), ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, section in _COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in section.items()])


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:  # noqa: ARG001 - click's form
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"signalpost {version('signalpost')}")
        ctx.exit()


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`signalpost COMMAND --help` shows what a command takes, with examples.",
)
@click.option("--version", is_flag=True, callback=_version, expose_value=False, is_eager=True)
@click.pass_context
def root(ctx: click.Context) -> None:
    """Deliver trading signals, signed, to HTTP endpoints: never lost, never late, never silent."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # Of a connection that Ctrl-C broke in mid-statement the pool would tell by a traceback.
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
        with interrupts_kept():
            result: Any = root.main(args=words, prog_name="signalpost", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        return 130
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 1
    except Exception as error:
        if interrupted(error):
            return 130
        if "--debug" in words:
            raise
        return _tell(error)
    return result if isinstance(result, int) else 0


def _tell(error: Exception) -> int:
    """Say in one line what went wrong, and return the exit code for it."""
    if isinstance(error, _SeenEnough):
        # Whoever read the output has seen enough. Python would complain once more while exiting.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "signalpost"
        click.echo(f"signalpost: {explain(error).rstrip('.')} (see {where} --help)", err=True)
        return 2
    click.echo(f"signalpost: {explain(error)}", err=True)
    return 1
