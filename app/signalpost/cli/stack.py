"""`signalpost up`: servers of its own, workers, beat and Flower in one terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from signalpost.cli.joining import address, debug_option, examples
from signalpost.cli.printing import facts, note
from signalpost.cli.roles import celery_argv, flower_environment
from signalpost.errors import SettingError

if TYPE_CHECKING:
    from signalpost.embedded import StackInfo
    from signalpost.settings import Settings
    from signalpost.supervisor import Child, PrefixedLines

__all__ = ["up"]

_RECORDING_SECONDS = 10.0


@click.command(
    epilog=examples(
        "signalpost up",
        "signalpost up --data ./signalpost-data --workers 4",
        "OUTBOUND_ALLOW_NETWORKS=127.0.0.0/8 signalpost up    # for a receiver on this machine",
    )
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the servers keep their data; else SIGNALPOST_DATA_DIR, else a folder of yours.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Deliver workers; one for each processor by default.",
)
@click.option("--flower-port", type=click.IntRange(1, 65535), help="Else any free one.")
@debug_option
@click.pass_context
def up(
    ctx: click.Context, *, data: Path | None, workers: int | None, flower_port: int | None
) -> None:
    """Run the whole stack in this terminal, until Ctrl-C.

    PostgreSQL and a Redis-protocol server of its own, deliver workers, the ops worker, beat and
    Flower, all on the loopback interface and with passwords. What dies is started again.
    """
    from signalpost.database import migrate
    from signalpost.embedded import Stack
    from signalpost.embedded.launching import free_port
    from signalpost.supervisor import PrefixedLines, Supervisor

    if flower_port is not None and free_port(flower_port) != flower_port:
        raise click.ClickException(
            f"port {flower_port} is in use; choose another by --flower-port, or leave it out"
        )
    for server in ("database", "redis"):
        variable = f"SIGNALPOST_{server.upper()}_URL"
        if os.environ.get(variable, "").strip():
            raise _another(variable, server)
    folder = (data or _default_folder()).expanduser().resolve()
    told: list[PrefixedLines] = []

    def say(text: str) -> None:
        if told:
            told[0].write("up", text)
        else:
            note(text)

    with ExitStack() as ending:
        stack = ending.enter_context(Stack.start(folder, say=say))
        if flower_port is not None:
            stack.use_flower_port(flower_port)
        info = stack.info
        settings = _settings_of(folder)
        workers = workers or os.cpu_count() or 1
        _refuse_used_metrics_ports(settings, workers)
        migrate(info.database_url)
        grace = _longest_attempt(settings) + _RECORDING_SECONDS
        children = stack_children(info, workers=workers, grace=grace)
        _introduce(info, settings)
        lines = ending.enter_context(
            PrefixedLines(sys.stdout, environ=os.environ, log_file=folder / "logs" / "up.log")
        )
        told.append(lines)
        code = Supervisor(children, lines=lines, marks=stack.marks).run()
        told.clear()
    ctx.exit(code)


def stack_children(info: StackInfo, *, workers: int, grace: float) -> list[Child]:
    """The processes of a stack, in the order of their start.

    Args:
        info: the servers that they join.
        workers: how many deliver workers.
        grace: seconds that a deliver worker may take to end what is under way.
    """
    from signalpost.supervisor import Child

    environment = _environment(info)
    port = int(info.flower_url.rpartition(":")[2])
    flower = flower_environment(info.flower_user, info.flower_password, port=port)
    ops = celery_argv("ops", name="ops")
    return [
        Child("ops", ops, {**environment, "SIGNALPOST_PROCESS_INDEX": "0"}, grace_seconds=30.0),
        *(
            Child(
                f"deliver-{index}",
                celery_argv("deliver", name=f"deliver-{index}"),
                {**environment, "SIGNALPOST_PROCESS_INDEX": str(index)},
                grace_seconds=grace,
                stage="deliver",
            )
            for index in range(1, workers + 1)
        ),
        Child(
            "beat",
            celery_argv("beat"),
            {**environment, "SIGNALPOST_PROCESS_INDEX": str(workers + 1)},
        ),
        Child("flower", celery_argv("flower"), {**environment, **flower}),
    ]


def _environment(info: StackInfo) -> Mapping[str, str]:
    return {"SIGNALPOST_DATA_DIR": str(info.folder), "PYTHONUNBUFFERED": "1"}


def _default_folder() -> Path:
    from signalpost.embedded import default_data_folder
    from signalpost.settings import read_dotenv

    # As the commands that join find it, or they would not find this stack.
    values = {**read_dotenv(Path(".env")), **os.environ}
    named = values.get("SIGNALPOST_DATA_DIR", "").strip()
    return Path(named) if named else default_data_folder(os.environ)


def _settings_of(folder: Path) -> Settings:
    from signalpost.settings import load_settings

    settings = load_settings(os.environ, data_folder=folder, dotenv=Path(".env"))
    for server in ("database", "redis"):
        source = getattr(settings, f"{server}_source")
        if not source.startswith("data folder "):
            raise _another(source, server)
    return settings


def _refuse_used_metrics_ports(settings: Settings, workers: int) -> None:
    from signalpost.embedded.launching import free_port

    base = settings.metrics_port
    for port in range(base, base + workers + 2) if base is not None else ():
        if free_port(port) != port:
            raise SettingError(
                f"the metrics port {port} is in use; choose another METRICS_PORT: "
                f"{workers + 2} ports from there on are needed"
            )


def _another(source: str, server: str) -> SettingError:
    # The workers would join that one, and this stack would stand by and do nothing.
    return SettingError(
        f"{source} names another {server} than this stack's; unset it, "
        "or run the parts by `signalpost worker`"
    )


def _longest_attempt(settings: Settings) -> float:
    from signalpost.cli.joining import transaction
    from signalpost.repository.endpoints import list_endpoints

    with transaction(settings) as conn:
        own = [view.timeout_seconds or 0.0 for view in list_endpoints(conn)]
    return max([settings.outbound_timeout_seconds, *own])


def _introduce(info: StackInfo, settings: Settings) -> None:
    click.echo(f"signalpost runs on {info.folder}; Ctrl-C ends it")
    facts(
        (
            ("  database", address(info.database_url)),
            ("  redis", address(info.redis_url)),
            ("  Flower", f"{info.flower_url}  user {info.flower_user}"),
            ("", f"its password: grep flower_password {info.folder / 'stack.json'}"),
            ("  logs", info.folder / "logs"),
            *_metrics(settings),
        )
    )
    click.echo("first steps, in another terminal:")
    steps = [
        "signalpost endpoint add NAME URL     # prints the secret for the receiver",
        "signalpost send signals.jsonl        # or enqueue by `signalpost.Producer`",
        "signalpost status",
    ]
    if not _found_without_a_word(info.folder):
        steps.insert(0, f"export SIGNALPOST_DATA_DIR={info.folder}")
    for step in steps:
        click.echo(f"  {step}")
    if not settings.outbound_allow_networks:
        click.echo(
            "  (for a receiver on this machine, OUTBOUND_ALLOW_NETWORKS=127.0.0.0/8 in the "
            "environment or .env of both)"
        )
    if not settings.hmac_producer_enabled:
        note("HMAC_PRODUCER_ENABLED is false: nothing is sent; signals wait, and expire")


def _metrics(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.metrics_port is not None:
        url = f"http://{settings.metrics_address}:{settings.metrics_port}/metrics"
        yield "  metrics", f"{url} (ops; the deliver workers on the next ports)"


def _found_without_a_word(folder: Path) -> bool:
    from signalpost.embedded import default_data_folder

    usual = default_data_folder(os.environ).expanduser().resolve()
    return folder == usual and not os.environ.get("DATABASE_URL")
