"""What docker-compose.yml runs, run as processes here: each command, and each health check."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from signalpost.embedded.launching import free_port
from signalpost.embedded.programs import postgres_programs, valkey_program
from signalpost.secretbox import SecretBox
from tests import compose
from tests.databases import with_database
from tests.processes import Program, clean_environment, wait_for

BIN = Path(sys.executable).parent
# There is no valkey-cli here: this one does what the check asks of it.
VALKEY_CLI = f"""#!{sys.executable}
import os, redis
print(redis.Redis(port=int(os.environ["PORT"]), password=os.environ["REDISCLI_AUTH"]).ping()
    and "PONG")
"""


@dataclass
class Host:
    """The one machine on which all that compose would put into containers runs here."""

    services: Mapping[str, Any]
    variables: Mapping[str, str]
    folder: Path
    replaced: Mapping[str, str]
    path: str

    def environment(self, name: str) -> dict[str, str]:
        found = compose.environment(self.services[name], self.variables)
        for text, here in self.replaced.items():
            found = {key: value.replace(text, here) for key, value in found.items()}
        return {**found, **self.own[name], "PATH": self.path}

    def __post_init__(self) -> None:
        # Containers have ports and addresses of their own; processes of one machine share them.
        pages = {"METRICS_ADDRESS": "127.0.0.1"}
        flower = {"FLOWER_ADDRESS": "127.0.0.1", "FLOWER_PORT": str(free_port())}
        postgres = urlsplit(self.replaced["postgres:5432/signalpost"].join(("//", "")))
        self.own: dict[str, dict[str, str]] = {
            "postgres": {"PGPORT": str(postgres.port)},
            "redis": {"PORT": self.replaced["redis:6379"].rpartition(":")[2]},
            "migrate": {},
            "flower": flower,
            **{
                name: {**pages, "METRICS_PORT": str(free_port())}
                for name in ("worker", "ops", "beat")
            },
        }

    def start(self, name: str) -> Program:
        service = self.services[name]
        argv = service["command"]
        if service["image"] == "signalpost:local":
            argv = [str(BIN / "signalpost"), *argv]
        return Program(argv, env=self.environment(name), cwd=self.folder)

    def check(self, name: str) -> int:
        return subprocess.run(
            compose.check_argv(self.services[name]),
            env={**clean_environment(), **self.environment(name)},
            cwd=self.folder,
            capture_output=True,
            check=False,
            timeout=30,
        ).returncode


@pytest.fixture
def host(postgres_server: str, tmp_path: Path) -> Host:
    address = urlsplit(postgres_server)
    redis_port = free_port()
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy(valkey_program(None), programs / "valkey-server")
    cli = programs / "valkey-cli"
    cli.write_text(VALKEY_CLI)
    cli.chmod(0o755)
    variables = {
        "POSTGRES_PASSWORD": str(address.password),
        "REDIS_PASSWORD": "apassword",
        "SECRET_KEYS": SecretBox.new_key(),
        "FLOWER_BASIC_AUTH": "me:apassword",
    }
    services = compose.interpolated(compose.read()["services"], variables)
    shell = services["redis"]["command"]
    shell[2] = shell[2].replace("dir /data", f"dir {tmp_path}\nbind 127.0.0.1\nport {redis_port}")
    return Host(
        services,
        variables,
        tmp_path,
        {
            "postgres:5432/signalpost": f"127.0.0.1:{address.port}/compose",
            "redis:6379": f"127.0.0.1:{redis_port}",
        },
        os.pathsep.join(
            [str(programs), str(BIN), str(postgres_programs(None)), os.environ["PATH"]]
        ),
    )


def test_every_command_runs_and_every_check_tells(host: Host, postgres_server: str) -> None:
    """Redis and all of ours start from an empty database by the file's own commands; each check
    fails before its service runs and passes after; all end in order when asked.
    """
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute("create database compose")
    assert with_database(postgres_server, "compose")
    lasting = ("worker", "ops", "beat", "flower")
    with ExitStack() as running:
        assert host.check("postgres") == 0
        assert host.check("redis") != 0
        redis = running.enter_context(host.start("redis"))
        wait_for(lambda: host.check("redis") == 0, what="redis")
        with host.start("migrate") as migrate:
            assert migrate.wait() == 0, migrate.output
        assert host.check("worker") == 1
        started = {name: running.enter_context(host.start(name)) for name in lasting}
        for name, program in started.items():
            wait_for(lambda name=name: host.check(name) == 0, what=name)  # type: ignore[misc]
            assert program.process.poll() is None
        ended = {name: program.end() for name, program in started.items()}
        assert ended == dict.fromkeys(lasting, 0), started
        assert redis.end() == 0
    for program in (redis, *started.values()):
        assert "Traceback" not in program.output
        assert "apassword" not in program.output
