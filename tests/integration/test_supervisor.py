"""The supervisor with small real children."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from threading import Thread

from signalpost.supervisor import Child, PrefixedLines, Supervisor
from tests.processes import Program, gone, wait_for

PROGRAM = Path(__file__).with_name("supervisor_program.py")
# Says who it is, then works until SIGTERM, which it answers with a word.
WORKS = """
import os, signal, sys, threading
end = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: end.set())
print("works", os.getpid(), os.environ["GREETING"], flush=True)
end.wait()
print("asked to end", flush=True)
"""
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("works", os.getpid(), flush=True)
time.sleep(600)
"""


def child(name: str, code: str = WORKS, **more: object) -> dict[str, object]:
    return {"name": name, "code": code, **more}


def supervising(*children: dict[str, object], folder: Path | None = None) -> Program:
    argv = [sys.executable, str(PROGRAM), json.dumps(children)]
    return Program([*argv, str(folder)] if folder else argv)


def works(program: Program, name: str, *, after: int = 0) -> int:
    """Waits until the child says so and returns its process id."""
    return int(program.wait_for_line(rf"^{name} +\| works (\d+)", after=after)[1])


def test_lines_carry_the_name() -> None:
    """Each line of a child, of stdout and of stderr, stands after the child's name."""
    code = "import sys; print('to out'); print('to err', file=sys.stderr); sys.stdout.write('half')"
    with supervising(child("a", code), child("b")) as program:
        program.wait_for_line(r"^a    \| to out$")
        program.wait_for_line(r"^a    \| to err$")
        program.wait_for_line(r"^a    \| half$")
        program.wait_for_line(r"^b    \| works \d+ hello$")
        program.wait_for_line(r"^up   \| b started \(process \d+\)$")


def test_the_dead_are_started_again() -> None:
    """A child that dies is started again after a growing wait, and each time it is said why."""
    with supervising(child("a", "raise SystemExit(3)"), child("b")) as program:
        pid = works(program, "b")
        for wait in ("0.05", "0.1", "0.2", "0.4", "0.4"):
            program.wait_for_line(rf"a ended with exit code 3; starting it again in {wait} s")
        os.kill(pid, signal.SIGKILL)
        program.wait_for_line(r"b was ended by signal 9; starting it again in 0.05 s")
        wait_for(lambda: len(re.findall(r"b    \| works", program.output)) == 2)


def test_a_program_that_is_missing_is_told() -> None:
    """A child whose program does not exist is named with the reason, and the others run."""
    with supervising({"name": "a", "argv": ["/no/such/program"]}, child("b")) as program:
        works(program, "b")
        program.wait_for_line("a cannot be started: No such file or directory")
        program.wait_for_line("a did not start; starting it again")


def test_a_childs_own_children_go_with_it(tmp_path: Path) -> None:
    """When a child dies, what it had started itself is ended before it starts again."""
    code = (
        "import subprocess, sys, os\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print('works', p.pid, flush=True); os._exit(1)"
    )
    with supervising(child("a", code)) as program:
        grandchild = works(program, "a")
        wait_for(lambda: gone(grandchild), what="the end of the grandchild")


def test_sigterm_ends_all_in_reverse_order() -> None:
    """SIGTERM ends the last started first, each before the next is asked, with exit code 0."""
    with supervising(child("a"), child("b"), child("c")) as program:
        pids = [works(program, name) for name in "abc"]
        program.send(signal.SIGTERM)
        assert program.wait() == 0

    asked = re.findall(r"^(\w) +\| asked to end", program.output, re.MULTILINE)
    assert asked == ["c", "b", "a"]
    assert program.lines[-1] == "up   | all ended, 0 left"
    assert gone(*pids)


def test_one_stage_ends_together() -> None:
    """Children of one stage are all asked at once: the grace of one is not added to another's."""
    slow = DEAF.replace("signal.SIG_IGN", "lambda *_: (time.sleep(0.7), os._exit(0))")
    same = [child(name, slow, stage="workers") for name in "abcd"]
    with supervising(*same) as program:
        for name in "abcd":
            works(program, name)
        begin = time.monotonic()
        program.send(signal.SIGTERM)
        assert program.wait() == 0
    assert time.monotonic() - begin < 4 * 0.7


def test_ctrl_c_reaches_only_the_supervisor() -> None:
    """A Ctrl-C does not hit the children, who are asked by SIGTERM in their order."""
    with supervising(child("a"), child("b")) as program:
        for name in "ab":
            works(program, name)
        os.killpg(program.pid, signal.SIGINT)
        assert program.wait() == 0
    assert "KeyboardInterrupt" not in program.output
    assert program.output.count("asked to end") == 2
    assert program.output.count("ending all: ") == 1


def test_a_deaf_child_is_killed_after_its_grace() -> None:
    """A child that does not answer is killed when its grace is over; the exit code says so."""
    with supervising(child("a"), child("b", DEAF, grace_seconds=0.3)) as program:
        works(program, "a")
        pid = works(program, "b")
        program.send(signal.SIGTERM)
        assert program.wait() == 1

    assert program.output.count("b did not end in time and is killed") == 1
    assert "asked to end" in program.output
    assert gone(pid)


def test_a_second_ctrl_c_kills() -> None:
    """Whoever presses Ctrl-C twice does not wait for any grace."""
    with supervising(child("a", DEAF, grace_seconds=600)) as program:
        pid = works(program, "a")
        program.send(signal.SIGINT)
        program.wait_for_line("ending all")  # two signals at once would be one
        program.send(signal.SIGINT)
        assert program.wait() == 1
    assert gone(pid)


def test_children_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    """After kill -9 of the supervisor its warden ends the children, the deaf ones by force."""
    deaf = child("b", DEAF, grace_seconds=0.2)
    with supervising(child("a"), deaf, folder=tmp_path) as program:
        pids = [works(program, name) for name in "ab"]
        program.kill()
        wait_for(lambda: gone(*pids), what="the end of the children")


def test_the_log_file_has_a_copy(tmp_path: Path) -> None:
    """The log file has every line that the terminal had, in the same order."""
    with supervising(child("a"), folder=tmp_path) as program:
        works(program, "a")
        program.send(signal.SIGTERM)
        program.wait()

    assert (tmp_path / "up.log").read_text().splitlines() == program.lines


def test_a_held_up_terminal_holds_up_nobody(tmp_path: Path) -> None:
    """A child goes on while nobody reads the terminal, and what was left out of it is counted."""
    reading, writing = os.pipe()
    log = tmp_path / "up.log"
    code = "import time\nfor n in range(20_000): print('line', n, 'x' * 50)\n"
    code += "print('done', flush=True)\n"
    code += "time.sleep(600)"
    with (
        os.fdopen(writing, "w") as stream,
        # Closed before the stream is, which could not flush to a terminal that nobody reads.
        os.fdopen(reading) as terminal,
        PrefixedLines(stream, environ={}, log_file=log, waiting_lines=100) as lines,
    ):
        supervisor = Supervisor([Child("a", [sys.executable, "-c", code])], lines=lines)
        supervisor.start()
        shown: list[str] = []
        try:
            wait_for(lambda: "a          | done" in log.read_text())
        finally:
            reader = Thread(target=lambda: shown.extend(terminal))
            reader.start()
            assert supervisor.stop() == 0
            lines.close()
            stream.close()
            reader.join()

    told = [
        int(found[1]) for found in map(re.compile(r"\((\d+) lines left").search, shown) if found
    ]
    copied = log.read_text().splitlines()
    assert sum(told) + len(shown) - len(told) == len(copied)
    assert sum(told) > 10_000


def test_a_closed_terminal_is_no_error() -> None:
    """Lines for a terminal that has gone away are dropped, and the processes go on."""
    stream = io.StringIO()
    stream.close()
    seen: list[int] = []

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            seen.append(len(text))
            raise BrokenPipeError

    with PrefixedLines(Closed(), environ={}) as lines:
        lines.write("a", "one")
        lines.write("a", "two")
    assert len(seen) == 2
