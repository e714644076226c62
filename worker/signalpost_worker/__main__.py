"""`python -m signalpost_worker ...` is Celery's command line, with a quick start and a quiet end.

Loading Celery takes a second, in which nothing of a worker is under way: Ctrl-C ends the process at
once, as it ends any program that has not asked otherwise. From its start on, a worker answers
Ctrl-C itself.
"""

from __future__ import annotations

import signal
from importlib import import_module

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import click
from celery.app.utils import find_app
from celery.bin.base import CLIContext

_QUICK = frozenset({"worker", "beat"})


class Commands(click.Group):
    """Celery's commands, each loaded when it is asked for.

    Celery's own group loads all of them, and what other packages add to it: Flower and its web
    server, in each worker.
    """

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, or None."""
        if cmd_name in _QUICK:
            found: click.Command = getattr(import_module(f"celery.bin.{cmd_name}"), cmd_name)
            return found
        return self._whole().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, for the help."""
        return self._whole().list_commands(ctx)

    @staticmethod
    def _whole() -> click.Group:
        whole: click.Group = import_module("celery.bin.celery").celery
        return whole


@click.group(cls=Commands)
@click.option("-A", "--app", required=True, help="the module that holds the Celery app")
@click.option("-q", "--quiet", is_flag=True, help="no banner")
@click.pass_context
def main(ctx: click.Context, app: str, *, quiet: bool) -> None:
    """Run a command of Celery's on this app."""
    ctx.obj = CLIContext(app=find_app(app), no_color=False, workdir=None, quiet=quiet)


if __name__ == "__main__":
    main(auto_envvar_prefix="CELERY")
