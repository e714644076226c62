"""A person at the command line: cancels some deliveries, pauses and resumes, and writes down when.

It works past the links and by the same functions as the commands. A line is on disk before its act
counts: `paused` is written after the pause's commit, `resuming` before the resume begins.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from pathlib import Path
from uuid import UUID

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from signalpost.core.pausing import Pause
from signalpost.repository.cancelling import cancel
from signalpost.repository.pauses import pause, resume
from tests.chaos.plan import ENDPOINTS

HANDS = "hands.jsonl"
CANCEL_EVERY = 4.0
PAUSE_EVERY = 5
"""So many rounds of cancelling lie between two pauses."""
ACTOR, WHY = "chaos", "to see that it holds"
OPTIONS = {
    "connect_timeout": 3,
    "options": "-c default_transaction_read_only=off -c statement_timeout=4s -c lock_timeout=3s",
}

_SOME = text(
    "SELECT id FROM signalpost.deliveries WHERE status IN ('pending', 'sending')"
    " ORDER BY random() LIMIT :most"
)
_ENDPOINT = text("SELECT id FROM signalpost.endpoints WHERE name = :name")


class Operator:
    """A thread; `end` resumes what is paused and returns when nothing is."""

    def __init__(self, folder: Path, seed: int, url: str) -> None:
        self._log = os.open(folder / HANDS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._chance = random.Random(f"{seed}:operator")
        url = url.replace("postgresql://", "postgresql+psycopg://", 1)
        self._engine = create_engine(url, pool_pre_ping=True, connect_args=OPTIONS)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let go of everything."""
        self._ending.set()
        self._thread.join(60)
        self._engine.dispose()

    def _work(self) -> None:
        turn = 0
        while not self._ending.wait(CANCEL_EVERY):
            turn += 1
            try:
                self._cancel()
                if turn % PAUSE_EVERY == 0:
                    self._pause()
            except SQLAlchemyError:
                continue  # the database is away; a person would try again

    def _cancel(self) -> None:
        with self._engine.begin() as connection:
            ids: list[UUID] = list(
                connection.scalars(_SOME, {"most": self._chance.randrange(1, 4)})
            )
            answers = cancel(connection, ids, actor=ACTOR)
        for answer in answers:
            self._write("cancel", id=str(answer.delivery_id), answer=answer.answer.value)

    def _pause(self) -> None:
        what, told = self._chosen()
        with self._engine.begin() as connection:
            pause(connection, what, named=str(told["scope"]), actor=ACTOR, why=WHY)
        begun = time.time()
        self._ending.wait(self._chance.uniform(2, 5))
        # Before the resume, since deliveries go out from its commit on.
        self._write("paused", since=begun, **told)
        while True:
            try:
                with self._engine.begin() as connection:
                    resume(connection, what, named=str(told["scope"]), actor=ACTOR, why=WHY)
            except SQLAlchemyError:
                time.sleep(0.5)
            else:
                return

    def _chosen(self) -> tuple[Pause, dict[str, object]]:
        scope = self._chance.choice(["all", "producer", "instrument", "endpoint", "entries"])
        told: dict[str, object] = {"scope": scope}
        if scope == "producer":
            told["value"] = f"strategy-{self._chance.randrange(2)}"
            return Pause("producer", str(told["value"])), told
        if scope == "instrument":
            told["value"] = f"INST{self._chance.randrange(12)}"
            return Pause("instrument", str(told["value"])), told
        if scope == "endpoint":
            told["value"] = self._chance.choice(ENDPOINTS)
            with self._engine.begin() as connection:
                found = connection.execute(_ENDPOINT, {"name": told["value"]}).scalar_one()
            return Pause("endpoint", endpoint_id=found), told
        return Pause("all", entries_only=scope == "entries"), told

    def _write(self, op: str, **facts: object) -> None:
        line = json.dumps({"at": time.time(), "op": op, **facts})
        os.write(self._log, line.encode() + b"\n")
