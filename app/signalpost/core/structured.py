"""A strict reader of Dictionary fields (RFC 9651, section 4.2.2), as signatures and digests use.

It keeps each member's own spelling, because a signature covers that spelling. Where the RFC lets
the last of two equal keys win, this reader refuses: two parties must never read two values.
Every malformed field is a ValueError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_BARE = re.compile(
    r"""
      (?P<string>"(?:[ !#-\[\]-~]|\\["\\])*")
    | (?P<bytes>:[A-Za-z0-9+/]*={0,2}:)
    | (?P<boolean>\?[01])
    | (?P<decimal>-?[0-9]{1,12}\.[0-9]{1,3})
    | (?P<integer>-?[0-9]{1,15})
    | (?P<date>@-?[0-9]{1,15})
    | (?P<token>[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*)
    """,
    re.VERBOSE,
)
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_SPACES = re.compile(r" *")


@dataclass(frozen=True, slots=True)
class Bare:
    """A bare item: its kind (string, bytes, integer, token ...) and its text without delimiters."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """A bare item with its parameters."""

    value: Bare
    params: dict[str, Bare] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a dictionary: an item, or the items of an inner list; `raw` is its spelling."""

    raw: str
    content: Bare | tuple[Item, ...]
    params: dict[str, Bare]


def dictionary(text: str) -> dict[str, Member]:
    """The members by key; ValueError where the text is not one dictionary with distinct keys."""
    reader = _Reader(text.strip(" "))
    members: dict[str, Member] = {}
    while reader.more():
        if members:
            reader.take(_COMMA)
        key = reader.take(_KEY)[0]
        if key in members:
            raise ValueError("a key is given twice")
        members[key] = reader.member()
    return members


def quoted(text: str) -> str:
    """The text as a String (RFC 9651, section 4.1.6); ValueError unless it is printable ASCII."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("a structured string holds printable ASCII only")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def more(self) -> bool:
        return self.at < len(self.text)

    def take(self, form: re.Pattern[str]) -> re.Match[str]:
        found = form.match(self.text, self.at)
        if found is None:
            raise ValueError("not a structured field")
        self.at = found.end()
        return found

    def skip(self, mark: str) -> bool:
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def member(self) -> Member:
        content: Bare | tuple[Item, ...] = Bare("boolean", "1")
        start = self.at
        if self.skip("="):
            start = self.at
            content = self.inner_list() if self.skip("(") else self.bare()
        params = self.params()
        return Member(self.text[start : self.at], content, params)

    def inner_list(self) -> tuple[Item, ...]:
        items: list[Item] = []
        spaced = True
        while True:
            spaced = bool(self.take(_SPACES)[0]) or spaced
            if self.skip(")"):
                return tuple(items)
            if not spaced:
                raise ValueError("items of an inner list stand apart")
            items.append(Item(self.bare(), self.params()))
            spaced = False

    def params(self) -> dict[str, Bare]:
        params: dict[str, Bare] = {}
        while self.skip(";"):
            self.take(_SPACES)
            key = self.take(_KEY)[0]
            if key in params:
                raise ValueError("a parameter is given twice")
            params[key] = self.bare() if self.skip("=") else Bare("boolean", "1")
        return params

    def bare(self) -> Bare:
        found = self.take(_BARE)
        kind = str(found.lastgroup)
        text = found[0]
        if kind == "string":
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        elif kind in {"bytes", "boolean", "date"}:
            text = text.strip(":?@")
        return Bare(kind, text)
