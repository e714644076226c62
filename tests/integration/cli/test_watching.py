from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from uuid import UUID

from sqlalchemy import Engine, text

from tests.integration.cli.operators import LINE, Operator
from tests.integration.test_replay import wait_until_blocked
from tests.pages import ROOT
from tests.processes import Program, clean_environment, signalpost, wait_for
from tests.proxy import Proxy


def interrupt(program: Program) -> int:
    program.send(signal.SIGINT)
    return program.wait(20)


def test_a_watched_status_lives_through_a_lost_database(bystander: Operator) -> None:
    """Piped it writes block after block, says what is down, goes on, and ends by Ctrl-C."""
    fate = "pass"
    url = bystander.environment["DATABASE_URL"]
    with (
        Proxy(url, lambda _: fate) as proxy,
        bystander.program("status", "--watch", "200ms", DATABASE_URL=proxy.url) as program,
    ):
        program.wait_for_line(r"^waiting .* nothing is due")
        fate = "cut"
        program.wait_for_line(r"^database .*down +PostgreSQL")
        told = len(program.lines)
        fate = "pass"
        program.wait_for_line(r"^waiting ", after=told)
        code = interrupt(program)

    assert code == 0
    assert "Traceback" not in program.output
    assert "\x1b" not in program.output


def test_ctrl_c_in_mid_statement_is_a_quiet_end(operator: Operator, engine: Engine) -> None:
    """A look that waits for the database is broken off at once, without a traceback."""
    with operator.program("status", "--watch", "200ms") as program, engine.begin() as conn:
        program.wait_for_line("^waiting ")
        conn.execute(text("LOCK TABLE signalpost.deliveries"))
        wait_until_blocked(engine)
        code = interrupt(program)

    assert code == 0
    assert "Traceback" not in program.output


def test_no_interrupt_is_lost_whenever_it_comes(bystander: Operator) -> None:
    """Ctrl-C ends a watch quietly at any moment, also where Python drops what is raised."""
    module = "tests.integration.cli.interrupted_looks"
    told = subprocess.run(
        [sys.executable, "-m", module, "20"],
        env={**clean_environment(), **bystander.environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert found["moments"] >= 20
    assert found["others"] == {}


def test_a_watched_status_in_json_is_one_line_a_look(bystander: Operator) -> None:
    """With --json each look is a document on a line of its own."""
    with bystander.program("status", "--watch", "200ms", "--json") as program:
        wait_for(lambda: len(program.lines) >= 3, 20, "three looks")
        interrupt(program)

    looks = [json.loads(line) for line in program.lines if line]
    assert {look["database_state"] for look in looks} == {"up"}
    assert looks[0]["as_of"] < looks[1]["as_of"]


def test_what_is_wrong_from_the_beginning_ends_a_watch(bystander: Operator) -> None:
    """A database that was never there is an error at once, not something to wait for."""
    result = bystander.run("status", "--watch", DATABASE_URL="postgresql://me@127.0.0.1:1/none")
    hasty = bystander.run("status", "--watch", "10ms")

    assert result.exit_code == 1
    assert "PostgreSQL cannot be reached" in result.stderr
    assert (hasty.exit_code, "200ms or more" in hasty.stderr) == (2, True)


def test_a_watched_status_is_redrawn_in_place(bystander: Operator) -> None:
    """On a terminal each look goes over the last one, within its height, and long lines are cut."""
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 80, 0, 0))
    shown = subprocess.Popen(
        signalpost("status", "--watch", "200ms"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        # LINES may have come from another terminal; whoever imports readline hands it on.
        env={**clean_environment(), **bystander.environment, "TERM": "xterm", "LINES": "24"},
        start_new_session=True,
    )
    os.close(theirs)
    content = b""
    try:
        while content.count(b"\x1b[?7l\x1b[H") < 3:
            content += os.read(mine, 65536)
        shown.send_signal(signal.SIGINT)
        with suppress(OSError):
            while piece := os.read(mine, 65536):
                content += piece
    finally:
        shown.kill()
        os.close(mine)
        shown.wait(20)

    block = content.split(b"\x1b[?7l\x1b[H")[1]
    assert block.count(b"\x1b[K\r\n") == 11
    assert b"lines more\x1b[K\r\n\x1b[J\x1b[?7h" in block


def test_a_watched_list_tells_what_comes_and_changes(
    operator: Operator, endpoint: str, engine: Engine
) -> None:
    """The newest stand first; each delivery that is enqueued, fails or ends adds a line, once."""
    operator.run("send", operator.file(LINE))
    with operator.program("deliveries", "list", "--watch", "200ms") as program:
        program.wait_for_line("AAPL .* pending")
        operator.run("send", operator.file({**LINE, "instrument": "IBM"}))
        program.wait_for_line("IBM .* pending")
        with engine.begin() as conn:
            conn.execute(
                text(
                    "UPDATE signalpost.deliveries SET attempts = 1, reason = 'http_503',"
                    " next_attempt_at = clock_timestamp() + interval '1 h'"
                )
            )
        program.wait_for_line("IBM .* pending  attempt 1  http_503; next in 60 min")
        operator.run("cancel", "--all")
        program.wait_for_line("AAPL .* cancelled  attempt 1")
        code = interrupt(program)

    assert code == 0
    assert "Traceback" not in program.output
    assert sum("AAPL" in line for line in program.lines) == 3


def test_a_watched_list_is_filtered_and_answers_in_json(
    operator: Operator, dead_letter: UUID
) -> None:
    """Only what the filters leave is told, one JSON document a line."""
    words = ("deliveries", "list", "--watch", "200ms", "--json", "--status", "cancelled")
    with operator.program(*words, "--instrument", "IBM") as program:
        operator.run("send", operator.file({**LINE, "instrument": "IBM"}, LINE))
        operator.run("cancel", "--all")
        wait_for(lambda: program.lines, 20, "a line")
        interrupt(program)

    [line] = [json.loads(line) for line in program.lines if line]
    assert (line["instrument"], line["status"]) == ("IBM", "cancelled")
    assert line["seen_at"] >= line["finished_at"]


def test_a_tail_has_no_pages(bystander: Operator) -> None:
    """--before and --watch exclude each other."""
    assert bystander.run("deliveries", "list", "--watch", "--before", "4f1c9a52").exit_code == 2
