"""The fault suite itself, for less than a minute; `make chaos` is the same for as long as asked."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.processes import Program, gone

CHAOS = [sys.executable, "-m", "tests.chaos"]
KEYS = ["seed", "signals", "faults", "lost", "silent", "duplicated", "late", "misordered"]
KEYS += ["altered", "wrong_status"]
# What costs little time: no fault of these waits for a lease to run out.
FAULTS = "postgres_crash,redis_flushall,link_receiver_reset,receiver_act_reset,kill_strategy"


@pytest.mark.timeout(400)
def test_the_stack_survives_some_faults_by_the_ledgers(tmp_path: Path) -> None:
    """Killed servers, lost messages, cut connections and dying strategies: nothing lost, silent,
    late, misordered, altered, repeated without a cause, or otherwise than recorded.
    """
    asked = ["--seed=11", "--minutes=0.3", "--every=3", "--rate=4", "--strategies=1", "--workers=1"]
    with Program([*CHAOS, *asked, f"--faults={FAULTS}", f"--out={tmp_path}"]) as chaos:
        code = chaos.wait(360)
    facts = json.loads((tmp_path / "chaos.json").read_text())
    assert code == 0, chaos.output
    assert list(facts) == KEYS
    assert all(isinstance(value, int) for value in facts.values())
    assert facts["signals"] > 10
    assert facts["faults"] >= 4
    assert "misordered    0" in (tmp_path / "chaos.txt").read_text()
    assert "<svg" in (tmp_path / "chaos.svg").read_text()


def test_ctrl_c_ends_a_fault_run_and_all_that_it_started(tmp_path: Path) -> None:
    """One Ctrl-C while servers and workers start or run: all are gone, and it says so."""
    with Program([*CHAOS, "--seed=1", f"--out={tmp_path}"]) as chaos:
        ours = psutil.Process(chaos.pid)
        # Both servers, the receivers and the links.
        while len(started := ours.children(recursive=True)) < 4:
            chaos.wait_for_line("seed 1")
        chaos.send(signal.SIGINT)
        code = chaos.wait(60)
    assert code == 130, chaos.output
    assert "nothing was judged" in chaos.output
    assert gone(*(process.pid for process in started))
