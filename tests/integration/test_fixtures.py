"""The test run's own servers: what the fixtures promise, and that nothing outlives a run."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy import Engine, text

from tests.processes import Program, gone, wait_for

ROOT = Path(__file__).parents[2]
INNER_TEST = '''
"""A test that starts both servers, says which they are, and then waits to be ended."""

import os, time
from tests import stack

def test_waits(database_url: str, redis_url: str) -> None:
    """The servers run until this test ends."""
    pids = [server.process.pid for server in stack._running.values()]
    print("\\npids", os.getpid(), stack.warden().pid, *pids, flush=True)
    time.sleep(60)
'''


def test_each_test_has_a_database_of_its_own(engine: Engine, database_url: str) -> None:
    """The database of a test is migrated and holds no row."""
    with engine.connect() as connection:
        assert connection.scalar(text("select count(*) from signalpost.signals")) == 0
        name = connection.scalar(text("select current_database()"))
        assert database_url.endswith(f"/{name}")
        connection.execute(text("create table public.left_behind (nothing int)"))
        connection.commit()


def test_no_test_sees_anothers_database(database_url: str, migrated_template: str) -> None:
    """What one test writes, the next does not find, and the template stays as it was migrated."""
    with psycopg.connect(database_url) as connection:
        found = connection.execute("select to_regclass('public.left_behind')").fetchone()
    assert found == (None,)


@pytest.mark.parametrize("run", [1, 2])
def test_redis_is_empty_for_each_test(redis_url: str, run: int) -> None:
    """A test finds no key of the one before."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_a_test_run(tmp_path: Path, number: signal.Signals) -> None:
    """A test run that is ended by Ctrl-C or killed leaves no server and no warden behind."""
    (tmp_path / "test_inner.py").write_text(INNER_TEST)
    argv = [sys.executable, "-m", "pytest", "-s", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    argv += ["-p", "no:xdist", f"--rootdir={ROOT}", f"-c{ROOT / 'pyproject.toml'}"]
    with Program([*argv, str(tmp_path)], cwd=ROOT) as run:
        pids = [int(pid) for pid in run.wait_for_line(r"^pids (.+)")[1].split()]
        assert len(pids) == 4
        os.killpg(run.pid, number)
        wait_for(lambda: gone(*pids), what="the end of all processes")
