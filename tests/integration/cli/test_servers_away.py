"""Every command with no settings at all, with PostgreSQL away, and with Redis away."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from signalpost.cli.program import root
from signalpost.embedded.launching import free_port
from tests.integration.cli.operators import LINE, Operator, Result

ID = "00000000-0000-4000-8000-000000000000"

# How each command is called here: a call that asks its servers, and changes nothing of the desk.
CALLS: dict[str, tuple[str, ...]] = {
    "worker": (),
    "receiver": ("--endpoint", "desk", "--port", "0"),
    "migrate": (),
    "endpoint add": ("new", "http://127.0.0.1:9/in"),
    "endpoint list": (),
    "endpoint pause": ("desk",),
    "endpoint reencrypt": (),
    "endpoint remove": ("nobody",),
    "endpoint resume": ("desk",),
    "endpoint rotate-secret": ("desk",),
    "endpoint set": ("desk", "--timeout", "10s"),
    "endpoint show": ("desk",),
    "endpoint test": ("desk",),
    "bench": ("--yes",),
    "send": ("{signals}",),
    "status": (),
    "deliveries list": (),
    "deliveries show": (ID,),
    "replay": ("--endpoint", "desk"),
    "skip": ("--endpoint", "desk"),
    "cancel": ("--instrument", "XYZ"),
    "pause": ("--producer", "nobody"),
    "resume": ("--producer", "nobody"),
    "audit list": (),
    "alerts list": (),
    "alerts resend": ("4711",),
}

# These bring servers of their own, or need none, or tell of them in their own way.
APART = {"demo", "up", "completion", "health", "alerts test", "doctor"}

# What a worker does without its database has tests of its own: it waits, as Celery.
TO_ASK = sorted(CALLS.keys() - {"worker"})

FAILS = {"endpoint remove", "endpoint test", "deliveries show", "alerts resend"}
"""As they would with Redis: there is no such thing, or nobody listens."""


def leaves(group: click.Group, path: str = "") -> Iterator[str]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        found = group.get_command(ctx, name)
        if isinstance(found, click.Group):
            yield from leaves(found, f"{path}{name} ")
        else:
            yield f"{path}{name}"


def called(operator: Operator, name: str, **more: str) -> Result:
    signals = operator.file(LINE)
    words = (word.format(signals=signals) for word in CALLS[name])
    return operator.run(*name.split(), *words, **more)


def test_no_command_is_left_out() -> None:
    """Each command that `--help` leads to stands in the table, or among those apart."""
    assert set(leaves(root)) == CALLS.keys() | APART


@pytest.mark.parametrize("name", CALLS)
def test_without_settings_a_command_says_what_to_set(bystander: Operator, name: str) -> None:
    """One line names the setting and another way; exit code 1."""
    result = called(bystander, name, DATABASE_URL="", REDIS_URL="", SECRET_KEYS="", HOME="/nowhere")

    assert (result.exit_code, result.stdout) == (1, "")
    [told] = result.stderr.splitlines()
    assert told.startswith("signalpost: no database: set DATABASE_URL, or start a stack")


@pytest.mark.parametrize("name", TO_ASK)
def test_with_postgresql_away_a_command_says_so(bystander: Operator, name: str) -> None:
    """One line says that it cannot be reached and what to look at, none repeats a password."""
    nobody = f"postgresql://me:correct-horse@127.0.0.1:{free_port()}/none"
    result = called(bystander, name, DATABASE_URL=nobody)

    assert result.exit_code == 1
    told = [line for line in result.stderr.splitlines() if not line.startswith("database: ")]
    assert len(told) == 1
    assert told[0].startswith("signalpost: PostgreSQL cannot be reached")
    assert "DATABASE_URL" in told[0]
    assert "correct-horse" not in result.output


@pytest.mark.usefixtures("endpoint")
def test_with_redis_away_everything_goes_on(operator: Operator) -> None:
    """No command fails for want of Redis; where deliveries come later for it, one line says so."""
    nobody = f"redis://:correct-horse@127.0.0.1:{free_port()}/0"
    for name in TO_ASK:
        if name in ("bench", "receiver"):  # they wait for somebody
            continue
        result = called(operator, name, REDIS_URL=nobody)
        assert result.exit_code == int(name in FAILS), result.output
        assert "Traceback" not in result.output
        assert "correct-horse" not in result.output
        about = [line for line in result.stderr.splitlines() if "Redis" in line]
        assert len(about) <= 1, result.stderr
