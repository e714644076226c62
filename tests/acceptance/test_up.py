"""The whole stack as `signalpost up` runs it, used by the other commands as an operator would."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import psutil

from signalpost.embedded import read_stack
from signalpost.embedded.launching import free_port
from tests.integration.cli.operators import LINE
from tests.processes import Program, clean_environment, free_ports, gone, signalpost, wait_for


def test_up_is_all_that_an_operator_needs(tmp_path: Path) -> None:
    """From `up` alone: an endpoint, a signal delivered, Flower closed, a second `up` refused, and
    nothing left after Ctrl-C.
    """
    folder = tmp_path / "data"
    environment = {
        "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
        "PRODUCER_ID": "tests",
        "SIGNALPOST_DATA_DIR": str(folder),
        "METRICS_PORT": str(free_ports(3)),
    }
    flower_port = free_port()

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            signalpost(*words),
            env={**clean_environment(), **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    def healthy(index: int) -> bool:
        asked = {**clean_environment(), **environment, "PROCESS_INDEX": str(index)}
        return subprocess.run(signalpost("health"), env=asked, check=False).returncode == 0

    words = ("up", "--workers", "1", "--flower-port", str(flower_port))
    with Program(signalpost(*words), env=environment, cwd=tmp_path) as up:
        up.wait_for_line("deliver-1.* ready", 60)
        again = command("up")
        retry = ("--retry-delay", "200ms", "--json")
        added = command("endpoint", "add", "desk", f"http://127.0.0.1:{free_port()}/in", *retry)
        url = json.loads(added.stdout)["url"]
        port = url.rpartition(":")[2].partition("/")[0]
        receiver = signalpost("receiver", "--endpoint", "desk", "--port", port, "--fail", "1")
        (tmp_path / "signals.jsonl").write_text(json.dumps(LINE))
        with Program(receiver, env=environment, cwd=tmp_path) as desk:
            desk.wait_for_line("listening on")
            sent = command("send", "signals.jsonl", "--wait")
            doctor = command("doctor", "--post", "--json")
            desk.end()
        story = json.loads(command("deliveries", "list", "--json").stdout)
        status = json.loads(command("status", "--json").stdout)
        wait_for(lambda: all(healthy(index) for index in range(3)), 30, "health of all")
        info = read_stack(folder)
        with httpx.Client(trust_env=False) as client:
            wait_for(lambda: _answers(client, flower_port), 30, "Flower")
            closed = client.get(f"http://127.0.0.1:{flower_port}/")
        children = [child.pid for child in psutil.Process(up.pid).children(recursive=True)]
        up.send(signal.SIGINT)
        code = up.wait(60)

    assert again.returncode == 1
    assert "a stack runs in" in again.stderr
    assert sent.returncode == 0, sent.stderr
    assert "ended: 1 delivered" in sent.stdout
    assert desk.lines[-1] == "1 accepted, 1 test, 1 gone wrong as told"
    assert doctor.returncode == 0, doctor.stdout
    states = {finding["check"]: finding["state"] for finding in json.loads(doctor.stdout)}
    assert {check for check, state in states.items() if state != "ok"} == {"telegram"}
    assert [(line["status"], line["attempts"]) for line in story] == [("delivered", 2)]
    assert [worker["alive"] for worker in status["workers"]] == [True]
    assert info is not None
    assert info.flower_url == f"http://127.0.0.1:{flower_port}"
    assert closed.status_code == 401
    assert info.flower_password not in up.output
    assert LINE["reason"] not in up.output
    assert code == 0, up.output
    wait_for(lambda: gone(*children), 20, "the end of all children")
    assert "a stack runs" not in command("status").stderr
    assert command("status").returncode == 1


def _answers(client: httpx.Client, port: int) -> bool:
    try:
        client.get(f"http://127.0.0.1:{port}/")
    except httpx.TransportError:
        return False
    return True


def test_up_refuses_another_database(tmp_path: Path) -> None:
    """`up` ends at once where the environment names another database than its own: its workers
    would join that one.
    """
    refused = subprocess.run(
        signalpost("up", "--data", str(tmp_path / "data")),
        env={**clean_environment(), "SIGNALPOST_DATABASE_URL": "postgresql://u@127.0.0.1:9/x"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert refused.returncode == 1
    assert "SIGNALPOST_DATABASE_URL names another database" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_up_refuses_another_redis_of_the_env_file(tmp_path: Path) -> None:
    """The same is noticed where `.env` names it, and what was started by then is ended."""
    (tmp_path / ".env").write_text("SIGNALPOST_REDIS_URL=redis://127.0.0.1:9/0\n")
    refused = subprocess.run(
        signalpost("up", "--data", str(tmp_path / "data")),
        env=clean_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert refused.returncode == 1
    assert "SIGNALPOST_REDIS_URL names another redis" in refused.stderr
    assert not (tmp_path / "data" / "stack.json").exists()


def test_up_refuses_a_port_that_is_taken(tmp_path: Path) -> None:
    """A port for Flower that somebody has is refused before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ("up", "--data", str(tmp_path / "data"), "--flower-port", str(port))
        refused = subprocess.run(
            signalpost(*words),
            env=clean_environment(),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert refused.returncode == 1
    assert f"port {port} is in use" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_up_refuses_metrics_ports_that_are_taken(tmp_path: Path) -> None:
    """A port that one of its workers would need is named before any of them is started."""
    base = free_ports(3)
    with socket.create_server(("127.0.0.1", base + 2)):
        refused = subprocess.run(
            signalpost("up", "--data", str(tmp_path / "data"), "--workers", "1"),
            env={**clean_environment(), "METRICS_PORT": str(base)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert refused.returncode == 1
    assert f"the metrics port {base + 2} is in use; choose another METRICS_PORT: 3 ports" in (
        refused.stderr
    )
    assert not (tmp_path / "data" / "stack.json").exists()


def test_ctrl_c_while_the_workers_are_starting(tmp_path: Path) -> None:
    """A Ctrl-C in the middle of the start ends what has begun, and starts nothing more."""
    words = ("up", "--data", str(tmp_path / "data"), "--workers", "1")
    with Program(signalpost(*words), cwd=tmp_path) as up:
        up.wait_for_line(r"ops started")
        children = [child.pid for child in psutil.Process(up.pid).children(recursive=True)]
        up.send(signal.SIGINT)
        code = up.wait(60)

    assert code == 0, up.output
    assert "Traceback" not in up.output
    assert not (tmp_path / "data" / "stack.json").exists()
    wait_for(lambda: gone(*children), 20, "the end of all children")
