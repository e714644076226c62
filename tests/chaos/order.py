"""The verdict on order, and on what a person stopped: each finding is a line of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.chaos.plan import ORDERED

Rows = Iterable[Mapping[str, Any]]
PAUSE_SECONDS = 1.25
"""A pause is known everywhere so soon; docs/operations.md says a second."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a signal stands among those of its strategy with the same ordering key."""

    who: str
    key: str
    number: int
    high: bool


def out_of_sequence(ledger: Rows, journal: Rows) -> list[str]:
    """Where a sequence is sent, first acceptances come in its order."""
    keys = {
        signal: key
        for line in journal
        if line["op"] == "call"
        for signal, key in zip(line["signals"], line.get("keys", ()), strict=False)
    }
    found = []
    last: dict[tuple[str, str], int] = {}
    for entry in ledger:
        if not entry["sequence"] or not entry["acted"] or entry["again"]:
            continue
        place = (entry["endpoint"], keys.get(entry["signal"] or "", ""))
        number = int(entry["sequence"])
        if number <= last.get(place, 0):
            found.append(f"{entry['key']}: {number} after {last[place]} for {place[1]}")
        last[place] = max(number, last.get(place, 0))
    return found


def overtaken(wire: Rows, journal: list[dict[str, Any]]) -> list[str]:
    """What was enqueued earlier is never begun after something later of its key.

    On ordered endpoints, and by an exit anywhere. Of one strategy, which has each answer before its
    next call; seen at the proxy beside the sender, by first bytes.
    """
    places = _places(journal)
    found = []
    furthest: dict[tuple[str, str, str], int] = {}
    for request in wire:
        place = places.get(request["x-idempotency-key"])
        if place is None:
            continue
        endpoint = request["link"]
        line = (endpoint, place.who, place.key)
        if place.number < furthest.get(line, -1):
            found.append(
                f"{request['x-idempotency-key']}, number {place.number} of {place.who} for "
                f"{place.key}, was begun at {endpoint} after number {furthest[line]}"
            )
        elif endpoint in ORDERED or place.high:
            furthest[line] = place.number
    return found


def _places(journal: list[dict[str, Any]]) -> dict[str, Place]:
    """By delivery; of signals whose end nobody knows, nothing is asked."""
    left = {(line["who"], n) for line in journal if line["op"] == "left" for n in line["n"]}
    by_signal: dict[str, Place] = {}
    by_delivery: dict[str, Place] = {}
    for line in journal:
        if line["op"] == "call" and "keys" in line:
            high = line["way"].get("priority") == "high"
            for number, signal, key in zip(line["n"], line["signals"], line["keys"], strict=True):
                if (line["who"], number) not in left:
                    by_signal[signal] = Place(line["who"], key, number, high)
        elif line["op"] == "enqueued":
            for signal, deliveries in zip(line["signals"], line["deliveries"], strict=True):
                if signal in by_signal:
                    by_delivery |= dict.fromkeys(deliveries.values(), by_signal[signal])
    return by_delivery


def acted_on_though_prevented(hands: Rows, ledger: Rows) -> list[str]:
    """Whose cancelling was answered by `prevented` is acted on by nobody."""
    acted = {entry["key"] for entry in ledger if entry["acted"]}
    prevented = {
        line["id"] for line in hands if line["op"] == "cancel" and line["answer"] == "prevented"
    }
    return [f"{delivery} was prevented, and was acted on" for delivery in prevented & acted]


def begun_though_paused(
    hands: Rows, wire: Rows, by_id: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """While a pause stands nothing is begun that it holds."""
    pauses = [line for line in hands if line["op"] == "paused"]
    found = []
    for request in wire:
        row = by_id.get(request["x-idempotency-key"])
        begun = request["at"] - request["lag"]
        for pause in pauses:
            within = pause["since"] + PAUSE_SECONDS < begun and request["at"] < pause["at"]
            if row is not None and within and _holds(pause, row):
                found.append(
                    f"{row['id']} was begun {begun - pause['since']:.2f} s into a pause of "
                    f"{pause['scope']} {pause.get('value', '')}"
                )
    return found


def _holds(pause: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    scope = pause["scope"]
    if scope in ("all", "entries"):
        return scope == "all" or int(row["priority"]) == 0
    return str(row[scope]) == str(pause["value"])
