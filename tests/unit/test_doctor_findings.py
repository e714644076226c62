from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from signalpost.core.lifecycle import Status
from signalpost.doctor.broker import of_info, of_nodes
from signalpost.doctor.examination import without_settings
from signalpost.doctor.findings import State
from signalpost.doctor.outbox import of_clock, of_overview, of_server
from signalpost.doctor.surroundings import lies_in_memory, of_disk
from signalpost.repository.health import ServerFacts
from signalpost.repository.overview import Overview, WorkerLine
from signalpost.repository.recent import Recently

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

SERVER = ServerFacts(
    version="18.1",
    version_number=180_001,
    read_only=False,
    fsync=True,
    full_page_writes=True,
    synchronous_commit=True,
    connections=10,
    max_connections=100,
    database_bytes=10**7,
    data_directory=None,
)

WORKER = WorkerLine(
    worker_id=None,  # type: ignore[arg-type]  # not looked at
    name="host:1",
    started_at=NOW,
    renewed_at=NOW,
    alive=True,
)

SEEN = Overview(
    as_of=NOW,
    unfinished={Status.PENDING: 3, Status.SENDING: 0},
    dead_letters={},
    dead_letters_at_least=False,
    finished={},
    finished_at_least=False,
    window_hours=24,
    recently=Recently(0, 300.0, {}, 300.0),
    due=3,
    overdue=0,
    oldest_due_seconds=0.5,
    alerts_unsent=1,
    oldest_alert_seconds=2.0,
    workers=(WORKER,),
    trouble=(),
    lasting=(),
)

REDIS = {
    "role": "master",
    "maxmemory_policy": "noeviction",
    "maxmemory": 0,
    "used_memory": 1000,
    "rdb_last_bgsave_status": "ok",
    "aof_last_write_status": "ok",
    "aof_enabled": 1,
}


@pytest.mark.parametrize(
    ("change", "check", "state", "told"),
    [
        ({}, "database", State.OK, "PostgreSQL 18.1"),
        ({"version_number": 140_010}, "database", State.FAILURE, "15 or newer"),
        ({"read_only": True}, "database", State.FAILURE, "point DATABASE_URL at the primary"),
        ({"connections": 95}, "database", State.WARNING, "95 of 100 connections"),
        ({}, "durability", State.OK, "on the disk"),
        ({"fsync": False}, "durability", State.FAILURE, "fsync off"),
        ({"full_page_writes": False}, "durability", State.FAILURE, "full_page_writes off"),
        ({"synchronous_commit": False}, "durability", State.FAILURE, "synchronous_commit off"),
    ],
)
def test_a_server_that_may_lose_or_refuse_is_told(
    change: dict[str, Any], check: str, state: State, told: str
) -> None:
    """A release too old, a standby, full connections, and commits that a crash can lose."""
    found = {item.check: item for item in of_server(replace(SERVER, **change), "here", 0.01)}

    assert found[check].state is state
    assert told in found[check].line


@pytest.mark.parametrize(
    ("off", "state", "told"),
    [
        (0.0, State.OK, "agrees"),
        (0.9, State.OK, "agrees"),
        (5.0, State.FAILURE, "5.0 s ahead of"),
        (-5.0, State.FAILURE, "5.0 s behind"),
    ],
)
def test_a_clock_that_is_off_is_told(off: float, state: State, told: str) -> None:
    """More than a second between this machine and the database: a worker here sends nothing."""
    before = NOW + timedelta(seconds=off)
    found = of_clock(before, NOW, before + timedelta(milliseconds=5))

    assert found.state is state
    assert told in found.line


def test_the_way_to_the_database_is_no_clock_error() -> None:
    """A slow answer alone does not make the clocks disagree."""
    found = of_clock(NOW, NOW + timedelta(seconds=4), NOW + timedelta(seconds=8))

    assert found.state is State.OK


@pytest.mark.parametrize(
    ("change", "check", "state", "told"),
    [
        ({}, "workers", State.OK, "1 deliver workers alive"),
        ({"workers": ()}, "workers", State.FAILURE, "nothing is sent"),
        (
            {"workers": (WORKER, replace(WORKER, name="host:2", alive=False))},
            "workers",
            State.WARNING,
            "silent: host:2",
        ),
        ({}, "deliveries", State.OK, "3 due, none of them late"),
        ({"overdue": 2, "oldest_due_seconds": 20.0}, "deliveries", State.WARNING, "for 20 s"),
        ({"overdue": 2, "oldest_due_seconds": 90.0}, "deliveries", State.FAILURE, "for 90 s"),
        ({}, "alerts", State.OK, "1 unsent"),
        ({"oldest_alert_seconds": 301.0}, "alerts", State.FAILURE, "an ops worker runs"),
    ],
)
def test_what_stands_still_is_told(
    change: dict[str, Any], check: str, state: State, told: str
) -> None:
    """No workers, deliveries that nobody takes, alerts that nobody sends."""
    found = {item.check: item for item in of_overview(replace(SEEN, **change), enabled=True)}

    assert found[check].state is state
    assert told in found[check].line


def test_sending_that_is_turned_off_explains_what_waits() -> None:
    """Where HMAC_PRODUCER_ENABLED is false, that is what to do about late deliveries."""
    late = replace(SEEN, overdue=2, oldest_due_seconds=90.0)
    found = {item.check: item for item in of_overview(late, enabled=False)}

    assert "HMAC_PRODUCER_ENABLED is false" in found["deliveries"].remedy


@pytest.mark.parametrize(
    ("change", "state", "told"),
    [
        ({}, State.OK, "noeviction; append-only file on"),
        ({"aof_enabled": 0}, State.OK, "a restart costs seconds, no signal"),
        ({"maxmemory_policy": "allkeys-lru"}, State.WARNING, "set maxmemory-policy noeviction"),
        ({"maxmemory": 1000, "used_memory": 950}, State.WARNING, "95% of its maxmemory"),
        ({"role": "slave"}, State.FAILURE, "takes no messages"),
        ({"cluster_enabled": 1}, State.FAILURE, "single Redis"),
        ({"rdb_last_bgsave_status": "err"}, State.FAILURE, "may refuse messages"),
        ({"aof_last_write_status": "err"}, State.FAILURE, "may refuse messages"),
    ],
)
def test_a_redis_that_forgets_or_refuses_is_told(
    change: dict[str, Any], state: State, told: str
) -> None:
    """Its role, its eviction policy, and persistence that fails."""
    found = of_info({**REDIS, **change})

    assert found.state is state
    assert told in found.line


DELIVER, OPS = frozenset({"deliver", "drain"}), frozenset({"alerts", "upkeep"})


@pytest.mark.parametrize(
    ("answers", "state", "told"),
    [
        ({"deliver-1@h": DELIVER, "ops@h": OPS}, State.OK, "deliver-1@h, ops@h"),
        ({"all@h": DELIVER | OPS}, State.OK, "all@h"),
        ({"deliver-1@h": DELIVER}, State.FAILURE, "no ops worker answers"),
        ({"ops@h": OPS}, State.FAILURE, "`signalpost worker --role deliver`"),
        ({}, State.FAILURE, "no deliver and no ops worker answers (those that do: none)"),
    ],
)
def test_a_queue_that_nobody_takes_from_is_told(
    answers: dict[str, frozenset[str]], state: State, told: str
) -> None:
    """Deliveries and alerts each need a worker on their queues."""
    found = of_nodes(answers)

    assert found.state is state
    assert told in found.line


GIB = 1024**3


@pytest.mark.parametrize(
    ("total", "free", "in_memory", "state", "told"),
    [
        (100 * GIB, 50 * GIB, False, State.OK, "50.0 GiB free at /data"),
        (100 * GIB, GIB, False, State.WARNING, "make room before it is full"),
        (100 * GIB, 100 * 1024**2, False, State.FAILURE, "100 MiB free at /data"),
        (100 * GIB, 50 * GIB, True, State.WARNING, "lies in memory"),
        (100 * GIB, 100 * 1024**2, True, State.FAILURE, "a full disk stops PostgreSQL"),
        (0, 0, True, State.WARNING, "has no size; it lies in memory"),
        (0, 0, False, State.OK, "the file system of /data has no size"),
    ],
)
def test_the_room_for_the_database_is_told(
    total: int, free: int, in_memory: bool, state: State, told: str
) -> None:
    """Little room, a database that a power cut takes; no size is not taken for no room."""
    found = of_disk(Path("/data"), total, free, in_memory=in_memory)

    assert found.state is state
    assert told in found.line


@pytest.mark.parametrize(
    ("place", "in_memory"),
    [
        ("/mem/data", True),
        ("/mem/my disk/data", False),
        ("/other", False),
        ("/twice/data", True),
    ],
)
def test_what_lies_in_memory_is_known_by_its_mount(place: str, in_memory: bool) -> None:
    """The innermost mount that holds a folder says what kind of file system it is on."""
    mounts = (
        "/dev/sda / ext4 rw 0 0\n\ntmpfs /mem tmpfs rw 0 0\n"
        "/dev/sdb /mem/my\\040disk ext4 rw 0 0\n"
        "/dev/sdc /twice ext4 rw 0 0\ntmpfs /twice tmpfs rw 0 0\n"
    )

    assert lies_in_memory(Path(place), mounts) is in_memory


def test_without_settings_all_else_is_skipped() -> None:
    """One failure says what is wrong with the settings; every other check, why it is not made."""
    first, *others = without_settings("no database: set DATABASE_URL")

    assert (first.check, first.state) == ("settings", State.FAILURE)
    assert {item.state for item in others} == {State.SKIPPED}
    assert all(item.told == "the settings cannot be used" for item in others)
