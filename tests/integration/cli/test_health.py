"""`signalpost health` against a page that says what the test wants."""

from __future__ import annotations

import json
import socket
import subprocess
import threading

import pytest
from prometheus_client import CollectorRegistry

from signalpost.embedded.launching import free_port
from signalpost.metrics import MetricsServer
from tests.processes import clean_environment, signalpost


def health(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        signalpost("health", *words),
        env={**clean_environment(), **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("troubles", [[], ["the database is away", "more"]])
def test_it_says_what_the_worker_says(troubles: list[str]) -> None:
    """Exit code 0 and `well`, or 1 and a line for each trouble; a proxy setting changes nothing."""
    server = MetricsServer(CollectorRegistry(), lambda: troubles, address="127.0.0.1", port=0)
    server.start()
    settings = {"METRICS_PORT": str(server.port - 2), "PROCESS_INDEX": "2"}
    proxy = {"http_proxy": "http://127.0.0.1:9"}
    said = health(METRICS_ADDRESS="0.0.0.0", **settings, **proxy)  # noqa: S104 - as in a container
    also = health("--json", **settings)
    server.stop()
    assert said.returncode == also.returncode == bool(troubles)
    assert said.stdout.splitlines() == (troubles or ["well"])
    assert json.loads(also.stdout) == {"healthy": not troubles, "troubles": troubles}


def test_a_worker_that_is_not_there_is_not_well() -> None:
    """Where nothing listens the exit code is 1, and the line says where it was looked for."""
    port = free_port()
    found = health(METRICS_PORT=str(port))
    assert found.returncode == 1
    assert found.stdout == f"no worker answers at http://127.0.0.1:{port}/healthz\n"


@pytest.mark.parametrize(
    "answer", [b"-ERR unknown command\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"]
)
def test_somebody_else_on_the_port_is_no_worker(answer: bytes) -> None:
    """What speaks no HTTP, or says something else, is told in the same one line."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def reply() -> None:
            conversation, _ = door.accept()
            with conversation:
                conversation.recv(4096)
                conversation.sendall(answer)

        threading.Thread(target=reply, daemon=True).start()
        found = health(METRICS_PORT=str(door.getsockname()[1]))

    assert (found.returncode, found.stderr) == (1, "")
    assert found.stdout.startswith("no worker answers at http://127.0.0.1:")


def test_without_a_port_it_cannot_ask() -> None:
    """The line names the setting."""
    found = health()
    assert found.returncode == 1
    assert "METRICS_PORT is not set" in found.stderr
