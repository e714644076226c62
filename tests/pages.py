"""The blocks of code in the README and in docs, and how a test runs the Python ones.

tests/unit/test_docs.py reads who asks for which: a Python block that no test asks for fails it.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PAGES", "ROOT", "Block", "Shown", "blocks", "python_block", "run_blocks"]

ROOT = Path(__file__).parents[1]
PAGES = tuple(
    str(page.relative_to(ROOT))
    for page in (
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
)

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: the page, relative to the project; the line of its fence; its text."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str, page: str | None = None) -> list[Block]:
    """The blocks in these languages (all, if none is named), of one page or of all."""
    found = []
    for name in PAGES if page is None else (page,):
        text = (ROOT / name).read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            inner = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
            block = Block(name, text[: match.start()].count("\n") + 1, match[2], inner)
            if not languages or block.language in languages:
                found.append(block)
    return found


def python_block(page: str, first_line: str) -> str:
    """The page's one Python block whose text begins so."""
    (block,) = (b for b in blocks("python", page=page) if b.text.startswith(first_line))
    return block.text


class Shown(Mapping[str, Any]):
    """What a page's blocks define, by name; remembers which names were asked for."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return self._names[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def left_out(self) -> set[str]:
        """The functions and classes of the page that were neither asked for nor used by those."""
        own = {
            name: value
            for name, value in self._names.items()
            if callable(value) and getattr(value, "__module__", "") == "<run_path>"
        }
        used, fresh = set(self.asked), set(self.asked)
        while fresh:
            codes = (getattr(own.get(name), "__code__", None) for name in fresh)
            fresh = {name for code in codes if code for name in code.co_names} - used
            used |= fresh
        return own.keys() - used


def run_blocks(page: str, folder: Path) -> Shown:
    """What the page's Python blocks define, each run as a script of its own in `folder`."""
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks("python", page=page)):
        script = folder / f"{Path(page).stem}_{number}.py"
        script.write_text(block.text, encoding="utf-8")
        names |= runpy.run_path(str(script))
    return Shown(names)
