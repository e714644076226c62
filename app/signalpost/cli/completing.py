"""Shell completion: the script that a shell loads, and the names that only the database knows."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from signalpost.cli.joining import debug_option, examples, find_settings

__all__ = ["completion", "endpoint_names"]

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
_PATIENCE_SECONDS = 1


def endpoint_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001  click's signature
    """Names of endpoints that begin so; none where the database does not answer at once."""
    data = ctx.params.get("data")
    try:
        from signalpost.database import sync_engine
        from signalpost.repository.endpoints import list_endpoints

        settings = find_settings(Path(data) if data else None, quiet=True)
        engine = sync_engine(settings.database_url, connect_timeout=_PATIENCE_SECONDS)
        try:
            with engine.connect() as conn:
                names = [view.name for view in list_endpoints(conn)]
        finally:
            engine.dispose()
    except Exception:  # noqa: BLE001 - whatever it is, it must not spoil the line being typed
        return []
    return [name for name in names if name.startswith(incomplete)]


@click.command(
    epilog=examples(
        'eval "$(signalpost completion bash)"       # in ~/.bashrc',
        'eval "$(signalpost completion zsh)"        # in ~/.zshrc',
        "signalpost completion fish > ~/.config/fish/completions/signalpost.fish",
    )
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@debug_option
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print what makes a shell complete commands, options, statuses and names of endpoints.

    SHELL is bash (4.4 or newer), zsh or fish.
    """
    root = ctx.find_root().command
    click.echo(_SHELLS[shell](root, {}, "signalpost", "_SIGNALPOST_COMPLETE").source())
