"""Troubles that last: when one is told, told again, and told to be over.

Pure. A trouble is told when it is first found, once more after a long time, and when it is over. It
is over only on evidence, such as a delivery that succeeded, and after it has not been found for a
while; so what comes and goes is told as one trouble.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from signalpost.core.alerting import ENDS

CALM_SECONDS = 90.0
"""A trouble must not have been found for so long before it is told to be over. More than
:data:`QUIET_SECONDS`, so that one success among failures is no end."""
QUIET_SECONDS = 60.0
"""An endpoint is in trouble only where nothing succeeded for so long."""
RETELL_SECONDS = 6 * 3600.0
FORGET_SECONDS = 24 * 3600.0
"""A trouble that was neither found nor seen to end for so long is forgotten without a word."""

_TOLD_ONCE = frozenset({"worker_gone", "endpoint_refuses"})

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that was found to be wrong: its kind, whose trouble it is, and labels."""

    kind: str
    subject: str = ""
    endpoint_id: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    """What a person calls the subject, where that is not an endpoint."""

    @property
    def key(self) -> Key:
        """What makes two findings the same trouble."""
        return self.kind, self.subject


@dataclass(frozen=True, slots=True)
class Known:
    """A trouble that was told before and has not ended."""

    trouble: Trouble
    began_at: datetime
    told_at: datetime
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do: tell, tell again, remember as seen, tell as over, forget."""

    begun: Sequence[Trouble]
    lasting: Sequence[Known]
    seen: Sequence[Trouble]
    over: Sequence[Known]
    forgotten: Sequence[Known]


def compare(
    known: Sequence[Known],
    found: Sequence[Trouble],
    *,
    well: Collection[Key],
    judged: Collection[str],
    now: datetime,
    calm_seconds: float = CALM_SECONDS,
) -> Changes:
    """Compare what is known with what is found.

    Args:
        known: the troubles that have not ended.
        found: those of now.
        well: known ones that there is evidence to be over.
        judged: the kinds that could be looked at; nothing of another kind ends.
        now: database time.
        calm_seconds: for how long an ended one must not have been found.
    """
    present = {trouble.key: trouble for trouble in found}
    standing = {each.trouble.key: each for each in known}
    lasting: list[Known] = []
    over: list[Known] = []
    forgotten: list[Known] = []
    for key, each in standing.items():
        kind = each.trouble.kind
        unseen = (now - each.seen_at).total_seconds()
        if key in present:
            told = (now - each.told_at).total_seconds()
            if told >= RETELL_SECONDS and kind not in _TOLD_ONCE:
                lasting.append(each)
        elif key in well and kind in judged and unseen >= calm_seconds:
            (over if kind in ENDS else forgotten).append(each)
        elif unseen >= FORGET_SECONDS:
            forgotten.append(each)
    return Changes(
        begun=[trouble for key, trouble in present.items() if key not in standing],
        lasting=lasting,
        seen=[trouble for key, trouble in present.items() if key in standing],
        over=over,
        forgotten=forgotten,
    )


class Patience:
    """Lets through what has been found for long enough: a blip of a second wakes nobody up.

    ``seconds``: by kind, for how long it must have been found in every look; 0 where not named.
    """

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._seconds = seconds
        self._since: dict[Key, datetime] = {}

    def lasting(self, found: Sequence[Trouble], now: datetime) -> list[Trouble]:
        """Those of ``found`` that have lasted long enough at ``now``."""
        self._since = {
            trouble.key: min(self._since.get(trouble.key, now), now) for trouble in found
        }
        return [
            trouble
            for trouble in found
            if now - self._since[trouble.key]
            >= timedelta(seconds=self._seconds.get(trouble.kind, 0.0))
        ]
