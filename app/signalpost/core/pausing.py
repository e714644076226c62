"""What is paused, and whether a delivery may go out all the same. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Scope = Literal["all", "producer", "instrument", "endpoint"]


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause: of everything, of a producer, of instruments by a pattern, or of an endpoint.

    ``entries_only`` lets the exit lane through.
    """

    scope: Scope
    value: str = ""
    endpoint_id: int | None = None
    entries_only: bool = False

    def holds(self, *, producer_id: str, instrument: str, endpoint_id: int, high: bool) -> bool:
        """Whether a delivery with these labels may not go out."""
        if high and self.entries_only:
            return False
        match self.scope:
            case "all":
                return True
            case "producer":
                return self.value == producer_id
            case "instrument":
                return fits(self.value, instrument)
            case "endpoint":
                return self.endpoint_id == endpoint_id


def fits(pattern: str, word: str) -> bool:
    """Whether a word fits a pattern, in which ``*`` is anything and ``?`` one character."""
    return _compiled(pattern).fullmatch(word) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(char) or re.escape(char) for char in pattern), re.DOTALL)
