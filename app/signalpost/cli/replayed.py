"""What a replay did, counted and told: one by one by ids, in groups by a filter."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import click

from signalpost.cli.printing import table, utc

if TYPE_CHECKING:
    from signalpost.repository.replaying import Replay

__all__ = ["ReplayCounts", "replays_json", "show_replays"]


@dataclass(slots=True)
class ReplayCounts:
    """Replays by endpoint, former status and result; those by id are kept one by one."""

    one_by_one: bool
    answers: list[Replay] = field(default_factory=list)
    groups: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    accepted: int = 0
    refused: int = 0

    def add(self, answer: Replay) -> None:
        """Count one."""
        if answer.refusal is None:
            self.accepted += 1
        else:
            self.refused += 1
        if self.one_by_one:
            self.answers.append(answer)
        self.groups[answer.endpoint or "-", str(answer.status), _left_out(answer)] += 1


def _left_out(answer: Replay) -> str:
    if answer.refusal is None:
        return ""
    return " ".join(answer.needs) or answer.refusal


def replays_json(counts: ReplayCounts, *, dry_run: bool) -> object:
    """The answer for a program."""
    if counts.one_by_one:
        return [{**asdict(answer), "dry_run": dry_run} for answer in counts.answers]
    return {
        "dry_run": dry_run,
        "replayed": counts.accepted,
        "left_out": counts.refused,
        "groups": [
            {"endpoint": endpoint, "status": status, "left_out_for": why or None, "number": number}
            for (endpoint, status, why), number in sorted(counts.groups.items())
        ],
    }


def show_replays(counts: ReplayCounts, *, dry_run: bool) -> None:
    """The answer for a person."""
    done = "would be replayed" if dry_run else "replayed"
    if counts.one_by_one:
        table(
            ("delivery", "instrument", "side", "endpoint", "was", "result", "expires"),
            [
                (
                    answer.delivery_id,
                    answer.instrument,
                    answer.side,
                    answer.endpoint,
                    answer.status,
                    answer.refusal or done,
                    utc(answer.expires_at),
                )
                for answer in counts.answers
            ],
            empty="",
        )
        return
    table(
        ("endpoint", "was", "number", "result"),
        [
            (endpoint, status, number, _result(why, done))
            for (endpoint, status, why), number in sorted(counts.groups.items())
        ],
        empty="no dead or expired delivery matches",
    )
    if counts.groups:
        click.echo(f"{counts.accepted} {done}, {counts.refused} left out")


def _result(why: str, done: str) -> str:
    if not why:
        return done
    if not why.startswith("--"):
        return f"left out: {why}"
    warning = " (ask the receiver first: it may have executed them)" if "unknown" in why else ""
    return f"left out; {why} takes them too{warning}"
