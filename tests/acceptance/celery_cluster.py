"""pytest-celery's nodes over real local processes: a valkey as the broker, `signalpost worker`s.

pytest-celery wraps Docker containers. Its node classes ask little of one, so the processes here
answer to the same names, and kill, restart, logs and readiness of its API work as they are.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from celery import Celery
from pytest_celery import (  # type: ignore[import-untyped]  # it ships no types
    CeleryTestBroker,
    CeleryTestSetup,
    CeleryTestWorker,
)

from signalpost import broker
from signalpost.cli.roles import QUEUES, Role
from signalpost.embedded.valkey import ValkeyServer
from tests import stack
from tests.engines import KEY
from tests.processes import Program, signalpost

READY = r"(\S+@\S+) ready"


def worker_settings(database_url: str, redis_url: str, **more: str) -> dict[str, str]:
    """The environment of a worker that may send to this machine and retries soon."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "SECRET_KEYS": KEY,
        "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
        "RETRY_DELAY_SECONDS": "0.3",
        "MAX_RETRIES": "2",
        **more,
    }


class LocalValkey:
    """A valkey process that answers as pytest-celery expects of a container."""

    def __init__(self, folder: Path) -> None:
        self.server: ValkeyServer = stack.redis_in(folder)
        self.name = self.id = "valkey"

    @property
    def celeryconfig(self) -> dict[str, Any]:
        url = self.server.url()
        return {"url": url, "host_url": url, "port": self.server.port, "vhost": "0"}

    @property
    def status(self) -> str:
        process = self.server.process
        return "running" if process is not None and process.poll() is None else "exited"

    def ready(self) -> bool:
        return self.status == "running"

    def logs(self) -> str:
        return self.server.log.read_text()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        assert self.server.process is not None
        _send(self.server.process.send_signal, signal)
        self.server.process.wait()

    def restart(self, timeout: float = 60) -> None:
        self.server.stop()
        self.server.start()

    def reload(self) -> None:
        """Nothing is cached here."""

    def teardown(self) -> None:
        self.server.stop()


class LocalWorker:
    """A `signalpost worker` process that answers as pytest-celery expects of a container."""

    def __init__(self, role: Role, environment: Mapping[str, str]) -> None:
        self.role = role
        self._environment = environment
        self.program = self._start()

    def _start(self) -> Program:
        return Program(signalpost("worker", "--role", self.role), env=self._environment)

    @property
    def id(self) -> str:
        return str(self.program.pid)

    @property
    def name(self) -> str:
        return f"{self.role}:{self.id}"

    @property
    def node_name(self) -> str:
        """The name by which Celery knows it."""
        return self.program.wait_for_line(READY)[1]

    @property
    def status(self) -> str:
        return "running" if self.program.process.poll() is None else "exited"

    def ready(self) -> bool:
        return bool(self.node_name) and self.status == "running"

    def worker_queue(self) -> str:
        return QUEUES[self.role]

    def logs(self) -> str:
        return self.program.output

    def kill(self, signal: str | int = "SIGKILL") -> None:
        _send(self.program.process.send_signal, signal)
        self.program.wait()

    def restart(self, timeout: float = 60) -> None:
        self.program.end()
        self.program = self._start()
        assert self.ready()

    def reload(self) -> None:
        """Nothing is cached here."""

    def teardown(self) -> None:
        self.program.end()


def _send(send: Any, number: str | int) -> None:
    send(signal.Signals[number] if isinstance(number, str) else signal.Signals(number))


class ValkeyBroker(CeleryTestBroker):  # type: ignore[misc]  # untyped, as above
    """The broker node."""

    def __init__(self, folder: Path) -> None:
        super().__init__(LocalValkey(folder))

    @property
    def url(self) -> str:
        return str(self.config()["url"])


class SignalpostWorker(CeleryTestWorker):  # type: ignore[misc]  # untyped, as above
    """A worker node; its app comes with the setup."""

    def __init__(self, role: Role, environment: Mapping[str, str]) -> None:
        super().__init__(LocalWorker(role, environment), cast("Celery", None))

    @property
    def role(self) -> Role:
        return cast("LocalWorker", self.container).role

    def hostname(self) -> str:
        return cast("LocalWorker", self.container).node_name


class SignalpostSetup(CeleryTestSetup):  # type: ignore[misc]  # untyped, as above
    """Its app is any Celery client's: it knows the names of tasks and queues, and no code."""

    @classmethod
    def name(cls) -> str:
        return "signalpost-tests"

    @classmethod
    def update_app_config(cls, app: Celery) -> None:
        app.conf.update(
            task_ignore_result=True,
            task_routes={
                broker.DELIVER_TASK: {"queue": broker.DELIVER_QUEUE},
                broker.DRAIN_TASK: {"queue": broker.DRAIN_QUEUE},
                broker.ALERT_TASK: {"queue": broker.ALERTS_QUEUE},
                broker.PRUNE_TASK: {"queue": broker.UPKEEP_QUEUE},
            },
        )
