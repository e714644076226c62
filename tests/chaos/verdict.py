"""The verdict: producers' journals, the database and the receivers' ledgers held together."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from signalpost.clock import LEASE_SECONDS
from tests.chaos.ledger import LEDGER
from tests.chaos.links import WIRE
from tests.chaos.operator import HANDS
from tests.chaos.order import (
    acted_on_though_prevented,
    begun_though_paused,
    out_of_sequence,
    overtaken,
)

FINDINGS = ("lost", "silent", "duplicated", "late", "misordered", "altered", "wrong_status")


@dataclass
class Verdict:
    """What was found; each finding in a line of text, by its kind."""

    found: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in FINDINGS})
    statuses: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    signals: int = 0
    latencies: list[tuple[float, float]] = field(default_factory=list)
    """(when it was enqueued, seconds from there to the first acceptance)"""

    @property
    def counts(self) -> dict[str, int]:
        """Findings by kind."""
        return {kind: len(lines) for kind, lines in self.found.items()}

    def add(self, other: Verdict) -> None:
        """Take another part's findings in."""
        for kind, lines in other.found.items():
            self.found[kind] += lines
        self.statuses += other.statuses
        self.causes += other.causes
        self.signals += other.signals
        self.latencies += other.latencies

    def finds(self, kind: str, text: str) -> None:
        """Note one finding."""
        self.found[kind].append(text)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a last one that was cut is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the three sides wrote down, as rows."""

    journal: list[dict[str, Any]]
    ledger: list[dict[str, Any]]
    wire: list[dict[str, Any]]
    deliveries: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    alerts: list[dict[str, Any]]
    hands: list[dict[str, Any]] = field(default_factory=list)


def gather(folder: Path, database_url: str) -> Evidence:
    """Read the journals and ledgers in `folder`, and the database."""
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        return Evidence(
            journal=[line for path in folder.glob("journal-*.jsonl") for line in _of(path)],
            ledger=lines_of(folder / LEDGER),
            wire=lines_of(folder / WIRE),
            hands=lines_of(folder / HANDS),
            deliveries=_rows(
                connection,
                "SELECT d.id::text, d.signal_id::text AS signal, e.name AS endpoint, d.status,"
                " d.reason, d.maybe_received, d.priority, s.producer_id AS producer, s.instrument"
                " FROM signalpost.deliveries d JOIN signalpost.endpoints e ON e.id = d.endpoint_id"
                " JOIN signalpost.signals s ON s.id = d.signal_id",
            ),
            attempts=_rows(
                connection,
                "SELECT delivery_id::text AS id, number, outcome, failure, phase, status_code, late"
                " FROM signalpost.attempts ORDER BY number",
            ),
            alerts=_rows(
                connection,
                "SELECT delivery_id::text AS id, kind, sent_at, receipt FROM signalpost.alerts",
            ),
        )


def judge(evidence: Evidence, messages: set[str]) -> Verdict:
    """Compare everything; `messages` are the ids of what the Bot API's stand-in took."""
    verdict = Verdict()
    by_id = {row["id"]: row for row in evidence.deliveries}
    verdict.statuses = Counter(row["status"] for row in evidence.deliveries)
    _lost(verdict, evidence.journal, by_id)
    _silent(verdict, evidence.deliveries, evidence.alerts, messages)
    _duplicated(verdict, evidence.ledger, evidence.attempts)
    _late(verdict, evidence.wire)
    verdict.found["misordered"] += out_of_sequence(evidence.ledger, evidence.journal)
    verdict.found["misordered"] += overtaken(evidence.wire, evidence.journal)
    _altered(verdict, evidence.journal, evidence.ledger, by_id)
    _wrong_status(verdict, evidence.deliveries, evidence.ledger)
    verdict.found["wrong_status"] += acted_on_though_prevented(evidence.hands, evidence.ledger)
    verdict.found["wrong_status"] += begun_though_paused(evidence.hands, evidence.wire, by_id)
    _timed(verdict, evidence.journal, evidence.ledger)
    return verdict


def _of(path: Path) -> list[dict[str, Any]]:
    return [{**line, "who": path.stem.removeprefix("journal-")} for line in lines_of(path)]


def _rows(connection: psycopg.Connection[dict[str, Any]], question: str) -> list[dict[str, Any]]:
    return connection.execute(question.encode()).fetchall()


def _lost(
    verdict: Verdict, journal: list[dict[str, Any]], by_id: dict[str, dict[str, Any]]
) -> None:
    """What a strategy was told is enqueued stands in the database and has ended."""
    enqueued: set[str] = set()
    for line in journal:
        if line["op"] != "enqueued":
            continue
        enqueued |= set(line["signals"])
        for signal, deliveries in zip(line["signals"], line["deliveries"], strict=True):
            for endpoint, delivery in deliveries.items():
                row = by_id.get(delivery)
                if row is None or (row["signal"], row["endpoint"]) != (signal, endpoint):
                    verdict.finds("lost", f"{delivery} of {signal} to {endpoint} is not there")
                elif row["status"] in ("pending", "sending"):
                    verdict.finds("lost", f"{delivery} to {endpoint} is {row['status']}")
    verdict.signals = len(enqueued)
    never = _never_written(journal) - enqueued
    for row in by_id.values():
        if row["signal"] in never:
            verdict.finds("wrong_status", f"{row['id']} exists, though its enqueueing failed")


def _never_written(journal: list[dict[str, Any]]) -> set[str]:
    """The ids of signals that a strategy was told are surely not enqueued, whenever it asked."""
    called: dict[tuple[str, int], str] = {}
    unsure: set[tuple[str, int]] = set()
    never: set[str] = set()
    for line in journal:
        keys = [(line["who"], n) for n in line["n"]]
        if line["op"] == "call":
            called |= dict(zip(keys, line["signals"], strict=True))
        if line["op"] == "unknown":
            unsure |= set(keys)
        if line["op"] in ("refused", "rolled_back"):
            never |= {called[key] for key in keys if key not in unsure}
    return never


def _silent(
    verdict: Verdict,
    deliveries: Iterable[dict[str, Any]],
    alerts: Iterable[dict[str, Any]],
    messages: set[str],
) -> None:
    """Whatever is dead or expired is linked to a message that the operator has."""
    told = {a["id"] for a in alerts if a["sent_at"] is not None and a["receipt"] in messages}
    for row in deliveries:
        if row["status"] in ("dead", "expired") and row["id"] not in told:
            verdict.finds("silent", f"{row['id']} is {row['status']} ({row['reason']}), untold")


def _duplicated(
    verdict: Verdict, ledger: list[dict[str, Any]], attempts: Iterable[dict[str, Any]]
) -> None:
    """A second arrival after an effect needs a cause: the first one's outcome was unknown."""
    by_delivery: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for attempt in attempts:
        by_delivery[attempt["id"]][attempt["number"]] = attempt
    acted: dict[str, dict[str, Any]] = {}
    for entry in ledger:
        key = entry["key"]
        if key in acted and entry["valid"]:
            first = acted[key]
            cause = _cause(by_delivery[key].get(first["attempt"]), entry["at"] - first["at"])
            if cause is None and entry["attempt"] < first["attempt"]:
                cause = _overtaken(by_delivery[key].get(entry["attempt"]))
            if cause is None:
                earlier = by_delivery[key].get(first["attempt"])
                told = "has no record" if earlier is None else f"is {earlier['outcome']}"
                verdict.finds(
                    "duplicated",
                    f"{key} came again as attempt {entry['attempt']}, though attempt "
                    f"{first['attempt']}, which was acted on, {told}",
                )
            else:
                verdict.causes[cause] += 1
        # The newest effect: each needs a cause of its own, or one would excuse all that follow.
        if entry["acted"]:
            acted[key] = entry


def _cause(earlier: dict[str, Any] | None, seconds: float) -> str | None:
    """Why there was another attempt so long after one that was acted on; None: no reason."""
    if earlier is None:
        return None
    if earlier["outcome"] == "unknown":
        return f"unknown: {earlier['failure'] or earlier['status_code']}"
    if earlier.get("late") and seconds >= LEASE_SECONDS:
        return "unknown: claim of a silent worker taken back (it said later what had become of it)"
    return None


def _overtaken(own: dict[str, Any] | None) -> str | None:
    """Why a request may come after that of the next attempt: it was given up on its way."""
    if own is None or own["outcome"] != "unknown":
        return None
    return f"unknown: {own['failure'] or own['status_code']}, brought after the next attempt"


def _late(verdict: Verdict, wire: Iterable[dict[str, Any]]) -> None:
    """No first byte after the expiry; what the proxy itself was late by is taken off."""
    for request in wire:
        if request["x-signalpost-expires-at"] in (None, "never"):
            continue
        expires = datetime.fromisoformat(request["x-signalpost-expires-at"]).timestamp()
        over = request["at"] - request["lag"] - expires
        if over > 0:
            key = request["x-idempotency-key"]
            verdict.finds("late", f"{key} was begun {over:.3f} s after its expiry")


def _altered(
    verdict: Verdict,
    journal: Iterable[dict[str, Any]],
    ledger: Iterable[dict[str, Any]],
    by_id: dict[str, dict[str, Any]],
) -> None:
    """Every body that arrives verifies, and is what the strategy made."""
    made: dict[str, str] = {}
    for line in journal:
        if line["op"] == "call":
            made |= dict(zip(line["signals"], line["sha256"], strict=True))
    for entry in ledger:
        row = by_id.get(entry["key"])
        if not entry["valid"]:
            verdict.finds("altered", f"{entry['key']} does not verify at {entry['endpoint']}")
        elif made.get(entry["signal"]) != entry["sha256"]:
            verdict.finds("altered", f"{entry['key']} has another body than its strategy made")
        elif (
            row is None or row["signal"] != entry["signal"] or row["endpoint"] != entry["endpoint"]
        ):
            verdict.finds("altered", f"{entry['key']} came with a signal that is not its own")


def _wrong_status(
    verdict: Verdict, deliveries: Iterable[dict[str, Any]], ledger: Iterable[dict[str, Any]]
) -> None:
    """Delivered means that a receiver acted; an effect is never denied."""
    acted = {entry["key"] for entry in ledger if entry["acted"]}
    seen = {entry["key"] for entry in ledger}
    for row in deliveries:
        if row["status"] == "delivered" and row["id"] not in acted:
            # 409 after an attempt without proof of refusal counts as delivered (docs/lifecycle.md).
            how = "was seen" if row["id"] in seen else "was never seen"
            verdict.finds("wrong_status", f"{row['id']} is delivered; by the ledger it {how}")
        if row["status"] != "delivered" and row["id"] in acted and not row["maybe_received"]:
            verdict.finds(
                "wrong_status", f"{row['id']} is {row['status']}, surely; it was acted on"
            )


def _timed(
    verdict: Verdict, journal: Iterable[dict[str, Any]], ledger: Iterable[dict[str, Any]]
) -> None:
    first: dict[str, float] = {}
    for entry in ledger:
        if entry["acted"]:
            first.setdefault(entry["key"], entry["at"])
    for line in journal:
        if line["op"] == "enqueued":
            for deliveries in line["deliveries"]:
                for delivery in deliveries.values():
                    if delivery in first:
                        verdict.latencies.append((line["at"], first[delivery] - line["at"]))
