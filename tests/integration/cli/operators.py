"""Somebody at a terminal, for tests of the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from signalpost.cli import main
from signalpost.secretbox import SecretBox
from tests.processes import Program, clean_environment, signalpost

LINE: dict[str, Any] = {
    "instrument": "AAPL",
    "side": "buy",
    "entry_price": 101.5,
    "stop_loss": 99,
    "take_profit": 110,
    "confidence": 0.5,
    "reason": "crossed the line",
    "timestamp": "2026-01-31T09:30:00Z",
}


@dataclass(frozen=True)
class Result:
    """How a command ended and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


class Operator:
    """Somebody with a database and a Redis, whose environment says nothing else."""

    def __init__(self, folder: Path, database_url: str, redis_url: str | None) -> None:
        self.folder = folder
        self.keys = SecretBox.new_key()
        self.environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url or "",
            "SECRET_KEYS": self.keys,
            "PRODUCER_ID": "tests",
            "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
            "XDG_DATA_HOME": str(folder / "nothing"),
        }

    def run(self, *words: str, given: str | bytes | None = None, **more: str) -> Result:
        """Run a command in this process, in this folder; both its outputs, apart."""
        runner = CliRunner()
        blank: dict[str, str | None] = dict.fromkeys(set(os.environ) - set(clean_environment()))
        environment: Mapping[str, str | None] = {**blank, **self.environment, **more}
        # Not in the checkout, whose `.env` may be somebody's own.
        with (
            chdir(self.folder),
            runner.isolation(given, environment) as (out, err, _),
        ):
            code = main(list(words))
        return Result(code, out.getvalue().decode(), err.getvalue().decode())

    def json(self, *words: str, **more: Any) -> Any:
        """What a command answers with --json."""
        result = self.run(*words, "--json", **more)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    def program(self, *words: str, **more: str) -> Program:
        """The same command as a process of its own."""
        return Program(signalpost(*words), env={**self.environment, **more}, cwd=self.folder)

    def file(self, *lines: Any, name: str = "signals.jsonl") -> str:
        """The path of a file with these lines, each a text or something to write as JSON."""
        path = self.folder / name
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text("".join(f"{text}\n" for text in texts))
        return str(path)
