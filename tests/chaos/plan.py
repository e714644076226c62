"""The fault schedule, drawn from a seed: what goes wrong, when, and for how long."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

ENDPOINTS = ("desk", "journal", "slow")
ORDERED = ("desk",)
CLOCK = "CHAOS_CLOCK"
"""The variable, and the file it names: by how many seconds the workers' wall clock is off."""
BACKLOG = 1024
"""Connections that may wait to be accepted: workers open hundreds at once, and a listener that is
overrun keeps them waiting for seconds."""
RECEIVER_MODES = (
    "error",
    "reject",
    "busy",
    "busy_date",
    "conflict",
    "timeout",
    "reset",
    "act_reset",
    "drip",
    "garbage",
    "close",
)


ROLLING = "rolling_restart"
"""No fault but an operator's everyday act; a run of it alone must show no repeat and no gap."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault; its length is drawn between two numbers of seconds (0: at once)."""

    name: str
    shortest: float = 0.0
    longest: float = 0.0


KINDS = (
    Kind("kill_deliver"),
    Kind("term_deliver"),
    Kind("kill_every_deliver"),
    Kind(ROLLING, 20, 20),
    Kind("kill_ops"),
    Kind("term_ops"),
    Kind("kill_beat"),
    Kind("term_beat"),
    Kind("freeze_deliver", 12, 16),
    Kind("freeze_ops", 12, 16),
    Kind("clock_off", 4, 10),
    Kind("freeze_redis", 2, 8),
    Kind("kill_redis_keep_data", 0, 3),
    Kind("kill_redis_lose_data", 0, 3),
    Kind("redis_gone", 20, 60),
    Kind("redis_flushall"),
    Kind("redis_client_kill"),
    Kind("redis_client_pause", 2, 5),
    Kind("postgres_fast", 0, 4),
    Kind("postgres_immediate", 0, 4),
    Kind("postgres_crash", 0, 4),
    Kind("postgres_read_only", 3, 8),
    Kind("link_redis_reset"),
    Kind("link_redis_hold", 5, 15),
    Kind("link_redis_delay", 3, 8),
    Kind("link_redis_deaf", 3, 10),
    Kind("link_redis_refuse", 3, 8),
    Kind("link_postgres_reset"),
    Kind("link_postgres_hold", 3, 14),
    Kind("link_postgres_delay", 3, 8),
    Kind("link_postgres_deaf", 3, 10),
    Kind("link_postgres_refuse", 3, 8),
    Kind("link_postgres_slow", 6, 10),
    Kind("link_receiver_reset"),
    Kind("link_receiver_hold", 3, 8),
    Kind("link_receiver_delay", 3, 8),
    Kind("link_receiver_slow", 15, 20),
    Kind("link_receiver_refuse", 3, 8),
    Kind("link_receiver_deaf", 3, 8),
    *(Kind(f"receiver_{mode}", 2, 8) for mode in RECEIVER_MODES),
    Kind("telegram_down", 5, 15),
    Kind("kill_strategy"),
    Kind("kill_strategy_unpublished"),
    Kind("kill_strategy_in_commit"),
)
UP_KINDS = ("kill_up", "term_up")
"""Done in a part of their own, see upside.py."""
BY_NAME = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the schedule: begins `at` seconds after the start, lasts `seconds`."""

    at: float
    kind: str
    seconds: float
    number: int

    @property
    def end(self) -> float:
        """Seconds after the start when it is healed."""
        return self.at + self.seconds

    @property
    def victim(self) -> str:
        """What it befalls; two at once on one victim would heal each other."""
        for victim in ("redis", "postgres", "telegram", "ops", "clock"):
            if victim in self.kind:
                return victim
        return "receiver" if "receiver" in self.kind else self.kind


def schedule(
    seed: int, length: float, kinds: Sequence[str], every: float, calm: float = 2.0
) -> list[Fault]:
    """Faults over `length` seconds, one about every `every` seconds, all kinds before any twice.

    For `calm` seconds at the beginning and at the end nothing goes wrong.
    """
    chance = random.Random(seed)
    faults: list[Fault] = []
    busy: dict[str, float] = {}
    at = calm
    bag: list[str] = []
    while at < length - calm:
        if not bag:
            bag = list(kinds)
            chance.shuffle(bag)
        kind = BY_NAME[bag.pop()]
        seconds = round(chance.uniform(kind.shortest, kind.longest), 2)
        fault = Fault(round(at, 2), kind.name, seconds, len(faults))
        free = busy.get(fault.victim, 0.0) + 1
        if free > fault.at:
            fault = replace(fault, at=round(free, 2))
        if fault.at < length - calm:
            faults.append(fault)
            busy[fault.victim] = fault.end
        at += chance.uniform(0.5, 1.5) * every
    return sorted(faults, key=lambda fault: fault.at)


def placed(wanted: Sequence[str]) -> list[Fault]:
    """Faults at stated times instead of drawn ones: `freeze_deliver@8+13` comes at 8 s for 13 s."""
    faults = []
    for number, text in enumerate(wanted):
        kind, _, when = text.partition("@")
        at, _, seconds = when.partition("+")
        faults.append(Fault(float(at), BY_NAME[kind].name, float(seconds or 0), number))
    return sorted(faults, key=lambda fault: fault.at)


def last_act(length: float, number: int) -> list[Fault]:
    """What ends every run: no worker takes what comes last, and then no message tells of it.

    Whatever rings later would make good for a lost message; after this one nothing rings.
    """
    return [
        Fault(length - 1.5, "kill_every_deliver", 0.0, number),
        Fault(length + 0.7, "redis_flushall", 0.0, number + 1),
    ]
