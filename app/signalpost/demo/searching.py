"""The search through all that a run wrote outside its database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from signalpost.demo.privacy import Finding, Needles

__all__ = ["Searched", "search_everything", "tasks_in_flower"]

FINDINGS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Searched:
    """What was searched, and what was found (the first few)."""

    log_bytes: int
    redis_bytes: int
    redis_keys: int
    tasks: int
    alerts: int
    findings: tuple[Finding, ...]


def search_everything(
    needles: Needles,
    *,
    logs: Path,
    redis_heard: bytes,
    redis_left: Mapping[str, bytes],
    tasks: Sequence[bytes],
    alerts: Iterable[str],
) -> Searched:
    """Search every log file under ``logs``, all Redis was told and holds, tasks and alerts.

    Args:
        needles: what must not be there.
        logs: a folder.
        redis_heard: the commands, as MONITOR writes them.
        redis_left: each key's content.
        tasks: what Flower tells of each task, arguments and results included.
        alerts: the texts that arrived at the Bot API.
    """
    files = {path.name: path.read_bytes() for path in sorted(logs.rglob("*")) if path.is_file()}
    texts = [alert.encode() for alert in alerts]
    places = [
        *((f"log {name}", content) for name, content in files.items()),
        ("Redis commands", redis_heard),
        *((f"Redis key {name}", content) for name, content in redis_left.items()),
        *((f"task {number} in Flower", task) for number, task in enumerate(tasks)),
        *((f"alert {number}", text) for number, text in enumerate(texts)),
    ]
    found = [finding for place, content in places for finding in needles.search(place, content)]
    return Searched(
        log_bytes=sum(map(len, files.values())),
        redis_bytes=len(redis_heard),
        redis_keys=len(redis_left),
        tasks=len(tasks),
        alerts=len(texts),
        findings=tuple(found[:FINDINGS_SHOWN]),
    )


def tasks_in_flower(url: str, user: str, password: str) -> list[bytes]:
    """Fetch all that Flower tells of every task it has seen.

    Raises:
        httpx.HTTPError: Flower does not answer.
    """
    answer = httpx.get(f"{url}/api/tasks", auth=(user, password), params={"limit": 100_000})
    answer.raise_for_status()
    return [json.dumps(task).encode() for task in answer.json().values()]
