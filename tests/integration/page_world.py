"""What stands ready when a command of a page is run: servers, endpoints, deliveries, files."""

from __future__ import annotations

import re
import secrets
import shutil
import signal
import socket
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from uuid import UUID

import click
from sqlalchemy import create_engine, text

from signalpost.cli.program import root
from signalpost.embedded.launching import free_port
from tests import rows
from tests.conftest import sync_url
from tests.integration.cli.operators import LINE, Operator
from tests.pages import ROOT
from tests.processes import Program, wait_for
from tests.shell import Line

__all__ = ["Accepting", "World", "command_path"]

# What a command that serves says once it does.
READY: dict[tuple[str, ...], str] = {
    ("worker",): r"ready|beat: Starting|its password for this run",
    ("receiver",): r"listening on",
}
# `doctor` rightly finds fault with servers that keep nothing on a disk; test_up.py sees it content.
FINDS_FAULT = {("doctor",)}
_ID = re.compile(r"^(ID|[0-9a-f]{8}(-[0-9a-f-]+)?)$")
_NAMES_AN_ENDPOINT = {"show", "set", "test", "remove", "rotate-secret", "pause", "resume"}


def command_path(words: tuple[str, ...]) -> tuple[str, ...]:
    """The command that `signalpost WORDS` runs, such as ("endpoint", "add")."""
    path: list[str] = []
    command: click.Command | None = root
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word)
        assert command is not None, f"signalpost has no command {word} (of {' '.join(words)})"
        path.append(word)
    return tuple(path)


class Accepting:
    """A receiver that takes everything, over real HTTP."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(201)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Tests print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/signals"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class World:
    """One operator's folder and servers, in which the lines of a block are run in their order."""

    def __init__(self, operator: Operator, accepting: str) -> None:
        self.operator = operator
        self.accepting = accepting
        self.programs = ExitStack()
        self.kept: list[tuple[Program, str]] = []
        self._deliveries: dict[str, UUID] = {}
        operator.environment["FLOWER_PORT"] = str(free_port())
        operator.file(LINE)
        shutil.copy(ROOT / ".env.example", operator.folder)
        operator.file(secrets.token_hex(16), name="desk.secret")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.programs.close()

    def run(self, line: Line) -> None:
        """Run `signalpost ...` in this process; one that serves as a process, until the end."""
        path = command_path(line.words[1:])
        if path == ("up",):
            return  # This world is up already; test_quick_start.py starts one by this line.
        words = self._prepared(path, list(line.words[1:]))
        if path in READY or "--watch" in words:
            self._serve(path, words, line.given)
            return
        result = self.operator.run(*words, **line.given)
        allowed = (0, 1) if path in FINDS_FAULT else (0,)
        assert result.exit_code in allowed, f"{line.text}\n{result.output}"

    def wait_until_all_serve(self) -> None:
        for program, ready in self.kept:
            if "its password" in program.wait_for_line(ready, 60)[0]:
                # Flower says this before it is Flower; until it serves, SIGTERM just kills it.
                wait_for(self._flower_serves, 60, "Flower")

    def _flower_serves(self) -> bool:
        with socket.socket() as probe:
            return (
                probe.connect_ex(("127.0.0.1", int(self.operator.environment["FLOWER_PORT"]))) == 0
            )

    def end_what_serves(self) -> None:
        """Workers are told so by SIGTERM, as a supervisor does it; the rest by Ctrl-C."""
        while self.kept:
            program, ready = self.kept.pop()
            program.send(signal.SIGTERM if ready == READY["worker",] else signal.SIGINT)
            code = program.wait(60)
            assert code == 0, f"{code}\n{program.output}"

    def _serve(self, path: tuple[str, ...], words: list[str], given: dict[str, str]) -> None:
        if path == ("receiver",) and "--port" not in words:
            words += ["--port", "0"]
        program = self.programs.enter_context(self.operator.program(*words, **given))
        self.kept.append((program, READY.get(path, r"\S")))

    def _prepared(self, path: tuple[str, ...], words: list[str]) -> list[str]:
        name = _value(words, "--endpoint")
        if path[0] == "endpoint" and path[-1] in _NAMES_AN_ENDPOINT:
            name = next(word for word in words[2:] if not word.startswith("-"))
        if name is not None:
            self._endpoint(name)
        if path == ("endpoint", "test"):
            self._reachable(str(name))
        if path == ("resume",):
            assert self.operator.run("pause").exit_code == 0
        if path == ("bench",):
            self._worker()
            words.append("--yes")  # nobody can be asked here
        if path == ("send",):
            self._worker()
            self._endpoint("desk")
            for known in self.operator.json("endpoint", "list"):
                self._reachable(known["name"])
        status = "pending" if path == ("cancel",) else "dead"
        return [str(self._delivery(status)) if _ID.match(word) else word for word in words]

    def _endpoint(self, name: str) -> None:
        if name not in [known["name"] for known in self.operator.json("endpoint", "list")]:
            added = self.operator.run("endpoint", "add", name, self.accepting)
            assert added.exit_code == 0, added.output

    def _reachable(self, name: str) -> None:
        # The pages' receivers are somebody else's, at names that nobody answers for.
        moved = self.operator.run("endpoint", "set", name, "--url", self.accepting)
        assert moved.exit_code == 0, moved.output

    def _worker(self) -> None:
        if not self.kept:
            program = self.programs.enter_context(self.operator.program("worker"))
            self.kept.append((program, READY["worker",]))
            self.wait_until_all_serve()

    def _delivery(self, status: str) -> UUID:
        if status not in self._deliveries:
            self._deliveries[status] = self._new_delivery(status)
        return self._deliveries[status]

    def _new_delivery(self, status: str) -> UUID:
        self._endpoint("desk")
        engine = create_engine(sync_url(self.operator.environment["DATABASE_URL"]))
        with engine.begin() as conn:
            endpoint = conn.scalar(text("SELECT id FROM signalpost.endpoints WHERE name = 'desk'"))
            found = rows.add_delivery(conn, endpoint_id=endpoint, status="pending")
            if status == "dead":
                conn.execute(
                    text(
                        "UPDATE signalpost.deliveries SET status = 'dead', reason = 'rejected',"
                        " next_attempt_at = NULL, finished_at = clock_timestamp() WHERE id = :id"
                    ),
                    {"id": found},
                )
        engine.dispose()
        return found


def _value(words: list[str], option: str) -> str | None:
    return words[words.index(option) + 1] if option in words else None
