"""The lines of a shell block, as a reader would type them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Line", "lines"]

_ASSIGNMENT = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=(.*)$", re.DOTALL)
_WANTS_A_SHELL = re.compile(r"[|<>;&$`*]")


@dataclass(frozen=True)
class Line:
    """One command: variables set in front of it, its words, and its text without comment."""

    text: str
    words: tuple[str, ...]
    given: dict[str, str] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """Whether it is one program with its words, and nothing for a shell to do."""
        return not _WANTS_A_SHELL.search(self.text)


def lines(text: str) -> Iterator[Line]:
    """The commands of a block; a line that ends in a backslash goes on in the next."""
    for typed in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = shlex.split(typed, comments=True)
        if not words:
            continue
        given: dict[str, str] = {}
        while words and (found := _ASSIGNMENT.match(words[0])):
            given[found[1]] = found[2]
            words.pop(0)
        yield Line(re.sub(r"\s+#\s.*$", "", typed).strip(), tuple(words), given)
