"""The embedded servers: their data, their crashes, their ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from signalpost.embedded import Stack, StackInfo, read_stack
from signalpost.embedded.launching import end_process, free_port
from signalpost.embedded.marks import marked
from signalpost.embedded.postgres import PostgresServer
from signalpost.embedded.programs import account_for, postgres_programs, valkey_program
from signalpost.embedded.valkey import ValkeyServer
from signalpost.errors import EmbeddedError
from tests.processes import Program, gone, wait_for

PROGRAM = Path(__file__).with_name("stack_program.py")


@pytest.fixture
def empty() -> Iterator[Path]:
    """A data folder yet to be made, inside one that is closed to other accounts, as /root is."""
    with tempfile.TemporaryDirectory(prefix="signalpost-") as closed:
        yield Path(closed) / "data"


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """A data folder whose stack ran once and was stopped; to be copied."""
    with tempfile.TemporaryDirectory(prefix="signalpost-") as closed:
        place = Path(closed) / "data"
        Stack.start(place).stop()
        # So that copies which run at the same time in other processes do not want the same ports.
        credentials = json.loads((place / "credentials.json").read_text())
        ports = dict.fromkeys(("postgres_port", "redis_port", "flower_port"), 0)
        (place / "credentials.json").write_text(json.dumps(credentials | ports))
        yield place


@pytest.fixture
def folder(prepared: Path, empty: Path) -> Path:
    """A data folder whose stack ran before: preparing a database takes a second each time."""
    shutil.copytree(prepared, empty)
    for path in prepared.rglob("*"):
        owner = path.stat()
        os.chown(empty / path.relative_to(prepared), owner.st_uid, owner.st_gid)
    return empty


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A running stack for the tests that only look."""
    with (
        tempfile.TemporaryDirectory(prefix="signalpost-") as closed,
        Stack.start(Path(closed) / "data") as running,
    ):
        yield running


def holding(folder: Path) -> Program:
    return Program([sys.executable, str(PROGRAM), str(folder)])


def ready(program: Program) -> int:
    """Waits for the program's stack and returns the process id of its child."""
    return int(program.wait_for_line(r"ready child=(\d+)")[1])


def running_in(folder: Path) -> StackInfo:
    info = read_stack(folder)
    assert info is not None
    return info


def store(info: StackInfo) -> None:
    """Leaves a row and a key, both acknowledged."""
    with psycopg.connect(info.database_url, autocommit=True) as connection:
        connection.execute("create table kept as select 42 as answer")
    with redis.Redis.from_url(info.redis_url) as client:
        client.set("kept", 42)


def stored(info: StackInfo) -> tuple[object, object]:
    with psycopg.connect(info.database_url) as connection:
        row = connection.execute("select answer from kept").fetchone()
    with redis.Redis.from_url(info.redis_url) as client:
        return row, client.get("kept")


def setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("select current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def test_postgres_keeps_what_it_says(stack: Stack) -> None:
    """The database writes through to the disk, takes 200 connections and binds loopback."""
    with psycopg.connect(stack.info.database_url) as connection:
        names = ("fsync", "synchronous_commit", "max_connections", "listen_addresses", "TimeZone")
        found = [setting(connection, name) for name in names]
        hashed = connection.execute(
            "select rolpassword from pg_authid where rolcanlogin"
        ).fetchone()

    assert found == ["on", "on", "200", "127.0.0.1", "UTC"]
    assert hashed is not None
    assert str(hashed[0]).startswith("SCRAM-SHA-256$")


def test_redis_keeps_what_it_says(stack: Stack) -> None:
    """Redis appends to a file, refuses writes rather than dropping keys, and binds loopback."""
    with redis.Redis.from_url(stack.info.redis_url, decode_responses=True) as client:
        found = client.config_get("appendonly", "maxmemory-policy", "bind")

    assert found == {"appendonly": "yes", "maxmemory-policy": "noeviction", "bind": "127.0.0.1"}


def test_both_want_their_password(stack: Stack) -> None:
    """Nobody gets in without the password that stands in the mode 0600 files."""
    host = f"127.0.0.1:{stack.postgres.port}"
    with pytest.raises(psycopg.OperationalError, match="no password"):
        psycopg.connect(f"postgresql://signalpost@{host}/signalpost")
    with (
        redis.Redis(port=stack.valkey.port, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    for name in ("credentials.json", "stack.json"):
        mode = (stack.info.folder / name).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


def test_no_secret_in_arguments_or_repr(stack: Stack) -> None:
    """Passwords and keys show neither in the process list nor in a repr that a log could hold."""
    credentials = stack.credentials
    secrets = [credentials.postgres_password, credentials.redis_password]
    secrets += [credentials.flower_password, *credentials.secret_keys]
    seen = [repr(stack.info), repr(credentials), repr(stack.postgres), repr(stack.valkey)]
    seen += [" ".join(psutil.Process(pid).cmdline()) for pid in stack.info.pids.values()]

    assert not [text for text in seen if any(secret in text for secret in secrets)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give it up")
def test_root_is_given_up(stack: Stack) -> None:
    """Started by root, both servers run under another account, and no folder was opened for it."""
    servers = [psutil.Process(stack.info.pids[name]) for name in ("postgres", "redis")]

    assert all(server.uids().effective != 0 for server in servers)
    assert stat.S_IMODE(stack.info.folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(stack.info.folder.stat().st_mode) == 0o700


def test_a_second_start_is_refused(stack: Stack) -> None:
    """A folder in use is refused in one line that names the process which holds it."""
    with pytest.raises(EmbeddedError, match=rf"\(process {os.getpid()}\)") as refused:
        Stack.start(stack.info.folder)

    assert "\n" not in str(refused.value)


def test_other_commands_find_the_stack(stack: Stack) -> None:
    """The folder tells another command all it needs to join, and that the stack is alive."""
    assert Stack.attach(stack.info.folder) == stack.info


def test_restart_on_the_same_data(folder: Path) -> None:
    """A stack started again has its data, ports and keys; in between nothing is found."""
    with Stack.start(folder) as first:
        before = first.info
        store(before)
    assert read_stack(folder) is None
    with pytest.raises(EmbeddedError, match="no stack runs in"):
        Stack.attach(folder)
    assert gone(*(pid for name, pid in before.pids.items() if name != "owner"))

    with Stack.start(folder) as second:
        after = second.info
        assert stored(after) == ((42,), b"42")

    assert after.database_url == before.database_url
    assert after.redis_url == before.redis_url
    assert after.secret_keys == before.secret_keys
    assert after.flower_url == before.flower_url


def test_a_taken_port_is_left_to_its_taker(folder: Path) -> None:
    """Where another program listens on the old ports, the servers take others and say which."""
    with Stack.start(folder) as first:
        ports = (first.postgres.port, first.valkey.port)
        store(first.info)
    takers = [socket.create_server(("127.0.0.1", port)) for port in ports]
    try:
        with Stack.start(folder) as second:
            assert {second.postgres.port, second.valkey.port}.isdisjoint(ports)
            assert stored(running_in(folder)) == ((42,), b"42")
    finally:
        for taker in takers:
            taker.close()


def test_a_server_that_dies_comes_back(folder: Path) -> None:
    """Killed servers are running again within seconds, on the same ports and data."""
    said: list[str] = []
    with Stack.start(folder, say=said.append) as stack:
        store(stack.info)
        before = stack.info
        for name in ("postgres", "redis"):
            os.kill(before.pids[name], signal.SIGKILL)
        wait_for(lambda: {"PostgreSQL runs again", "valkey runs again"} <= set(said))

        after = running_in(folder)
        assert stored(after) == ((42,), b"42")
        assert after.database_url == before.database_url
        assert after.redis_url == before.redis_url
    assert "PostgreSQL ended (exit code -9); starting it again" in said
    assert "valkey ended (exit code -9); starting it again" in said


def _servers(info: StackInfo) -> tuple[int, int]:
    return info.pids["postgres"], info.pids["redis"]


def test_redis_comes_back_without_its_data(folder: Path) -> None:
    """Redis is disposable: killed with its data folder, it is started again, empty."""
    said: list[str] = []
    with Stack.start(folder, say=said.append) as stack:
        os.kill(stack.info.pids["redis"], signal.SIGKILL)
        shutil.rmtree(folder / "valkey")
        wait_for(lambda: "valkey runs again" in said)
        with redis.Redis.from_url(stack.info.redis_url) as client:
            assert client.dbsize() == 0


def test_nothing_outlives_a_killed_owner(folder: Path) -> None:
    """After kill -9 of the owner no server and no child is left, and the data is whole."""
    with holding(folder) as program:
        child = ready(program)
        info = running_in(folder)
        store(info)
        program.kill()
        wait_for(lambda: gone(child, *info.pids.values()), what="the end of all processes")

    assert not marked(folder)
    assert read_stack(folder) is None
    with Stack.start(folder) as stack:
        assert stored(stack.info) == ((42,), b"42")


def test_a_killed_warden_is_replaced(folder: Path) -> None:
    """A killed warden is replaced, and the new one ends everything when the owner is killed too."""
    with holding(folder) as program:
        child = ready(program)
        old = running_in(folder).pids["warden"]
        os.kill(old, signal.SIGKILL)
        program.wait_for_line("the warden had died")
        wait_for(lambda: running_in(folder).pids["warden"] != old)
        pids = running_in(folder).pids.values()
        program.kill()
        wait_for(lambda: gone(child, *pids), what="the end of all processes")


def test_a_start_clears_what_was_left(folder: Path) -> None:
    """Where owner and warden were both killed, the next start ends what they left, and runs."""
    with holding(folder) as program:
        child = ready(program)
        info = running_in(folder)
        store(info)
        psutil.Process(info.pids["owner"]).suspend()
        os.kill(info.pids["warden"], signal.SIGKILL)
        program.kill()
    assert not gone(child)
    assert not gone(*_servers(info))
    assert not running_in(folder).alive

    said: list[str] = []
    with Stack.start(folder, say=said.append) as stack:
        assert gone(child, *_servers(info))
        assert stored(stack.info) == ((42,), b"42")
    assert any("an earlier run had left behind" in line for line in said)


def test_a_start_waits_for_a_killed_owners_servers(folder: Path) -> None:
    """A start right after kill -9 neither meets the old servers nor is refused."""
    with holding(folder) as program:
        ready(program)
        store(running_in(folder))
        program.kill()
        said: list[str] = []
        with Stack.start(folder, say=said.append) as stack:
            assert stored(stack.info) == ((42,), b"42")
    assert said == []  # the warden had ended all; nothing was left for the start to end


def test_ctrl_c_reaches_only_the_owner(folder: Path) -> None:
    """Ctrl-C does not hit servers or warden, only the owner, who ends them in order."""
    with holding(folder) as program:
        ready(program)
        pids = running_in(folder).pids
        groups = {name: os.getpgid(pid) for name, pid in pids.items()}
        assert len(set(groups.values())) == len(groups)
        os.killpg(program.pid, signal.SIGINT)
        program.wait_for_line("^stopping")
        assert program.wait() == 0

    assert gone(*pids.values())
    log = (folder / "logs" / "postgres.log").read_text()
    assert log.rstrip().endswith("database system is shut down")
    assert not marked(folder)


def test_stale_process_id_of_a_stranger(folder: Path) -> None:
    """A postmaster.pid whose number another program has after a reboot does not stop the start."""
    with Stack.start(folder) as first:
        store(first.info)
    # One of the same account, which PostgreSQL would take for a server of its own.
    account = (folder / "postgres").stat().st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["/bin/sleep", "600"], user=account, cwd="/") as stranger:
        pid_file = folder / "postgres" / "postmaster.pid"
        pid_file.write_text(f"{stranger.pid}\n{folder}\n1\n1\n\n\n\n")
        try:
            with Stack.start(folder) as second:
                assert stored(second.info) == ((42,), b"42")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_data_of_another_version_is_refused(folder: Path) -> None:
    """Data of another major version is refused in one line with the remedy, and left untouched."""
    version = folder / "postgres" / "PG_VERSION"
    version.write_text("17\n")

    with pytest.raises(
        EmbeddedError, match="made by PostgreSQL 17 and this is PostgreSQL 18: dump"
    ):
        Stack.start(folder)

    assert version.read_text() == "17\n"
    assert not marked(folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "credentials.json is missing, so the database beside it is locked"),
        ("{", "credentials.json is damaged: restore it"),
        ('{"postgres_password": 1, "other": 2}', "credentials.json is damaged: restore it"),
    ],
)
def test_lost_credentials_are_told(folder: Path, content: str | None, complaint: str) -> None:
    """Lost or damaged credentials of existing data are told in a line, and not made anew."""
    file = folder / "credentials.json"
    file.unlink()
    if content is not None:
        file.write_text(content)

    with pytest.raises(EmbeddedError, match=complaint) as refused:
        Stack.start(folder)

    assert "\n" not in str(refused.value)
    assert file.exists() == (content is not None)


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"secret_keys": 3})])
def test_damaged_stack_file_is_told(empty: Path, content: str) -> None:
    """A stack.json that cannot be understood gives one line with the remedy, never a traceback."""
    empty.mkdir()
    (empty / "stack.json").write_text(content)

    with pytest.raises(EmbeddedError, match=r"stack.json is damaged: start the stack again"):
        read_stack(empty)


def test_a_file_is_no_data_folder(empty: Path) -> None:
    """A path that cannot be a folder is refused in one line that names it."""
    empty.write_text("")

    with pytest.raises(EmbeddedError, match="cannot be used"):
        Stack.start(empty)


def test_a_start_that_fails_leaves_nothing(folder: Path) -> None:
    """Where the second server cannot start, the first is ended and the folder is let go."""
    shutil.rmtree(folder / "valkey" / "appendonlydir")
    (folder / "valkey" / "appendonlydir").write_text("in the way")

    with pytest.raises(EmbeddedError, match="valkey did not start"):
        Stack.start(folder)

    assert not marked(folder)
    assert read_stack(folder) is None
    (folder / "valkey" / "appendonlydir").unlink()
    Stack.start(folder).stop()


def test_free_port_keeps_what_it_can() -> None:
    """A wanted port is given while it is free, another one when somebody listens on it."""
    port = free_port()
    assert free_port(port) == port
    with socket.create_server(("127.0.0.1", port)):
        assert free_port(port) != port


def test_a_port_lost_at_the_last_moment(folder: Path, stack: Stack) -> None:
    """A server that finds its port taken as it starts says so, for the next port to be tried."""
    taken = stack.postgres.port
    postgres = PostgresServer(folder / "postgres", folder / "logs" / "postgres.log", "-", taken)
    valkey = ValkeyServer(folder / "valkey", folder / "logs" / "valkey.log", "-", taken)
    account = account_for(postgres.folder)

    assert not postgres._answers(postgres_programs(account), account)
    assert not valkey._answers(valkey_program(account), account)
    assert postgres.process is None
    assert valkey.process is None


def test_flower_keeps_the_port_it_was_given(folder: Path) -> None:
    """A port chosen for Flower is told to other commands, now and after a restart."""
    port = free_port()
    with Stack.start(folder) as first:
        first.use_flower_port(port)
        assert running_in(folder).flower_url == f"http://127.0.0.1:{port}"
    with Stack.start(folder) as second:
        assert second.info.flower_url == f"http://127.0.0.1:{port}"


def test_a_deaf_process_is_killed_in_the_end() -> None:
    """A server that answers no signal is killed when each signal has had its seconds."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)"
    deaf = subprocess.Popen(
        [sys.executable, "-c", f"{code}; time.sleep(600)"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        end_process(deaf, (signal.SIGTERM, 0.2), (signal.SIGTERM, 0.1))
        assert deaf.returncode == -signal.SIGKILL
