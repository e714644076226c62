"""The documentation says what the code does, as far as a machine can tell."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import write_settings
from signalpost.core.lifecycle import LEGAL_MOVES
from signalpost.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


def _blocks(language: str) -> dict[str, str]:
    return {
        f"{page.relative_to(ROOT)}-{number}": text
        for page in PAGES
        for number, (found, text) in enumerate(_FENCE.findall(page.read_text(encoding="utf-8")))
        if found == language
    }


PYTHON_BLOCKS = _blocks("python")


def test_the_table_of_moves_is_the_one_in_code() -> None:
    """docs/lifecycle.md lists exactly the legal moves, each with the cause that the code gives."""
    text = (ROOT / "docs" / "lifecycle.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+) \|$", text, re.MULTILINE)

    written = {(before, after): cause for before, after, cause in rows}

    assert written == {(a.value, b.value): cause for (a, b), cause in LEGAL_MOVES.items()}


def test_the_picture_of_moves_is_the_table() -> None:
    """The arrows of the state diagram are exactly the legal moves."""
    text = (ROOT / "docs" / "lifecycle.md").read_text(encoding="utf-8")

    arrows = set(re.findall(r"^    (\w+) --> (\w+)$", text, re.MULTILINE))

    assert arrows == {(a.value, b.value) for a, b in LEGAL_MOVES}


@pytest.mark.parametrize("block", list(PYTHON_BLOCKS.values()), ids=list(PYTHON_BLOCKS))
def test_every_python_block_compiles(block: str) -> None:
    """A reader can paste any Python block of the documentation without a syntax error."""
    compile(block, "documentation", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """No page links to a file that is not there."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [m[0] for m in _LINK.findall(text) if not re.match(r"[a-z]+:", m[0])]

    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_the_settings_page_and_the_example_are_what_the_code_says() -> None:
    """Meaning, default and range of each setting stand in both as the settings class has them."""
    assert [str(file) for file in write_settings.stale()] == [], "make fmt writes them"


def test_every_setting_is_documented() -> None:
    """Each setting says what it means and stands in one table of docs/settings.md, as no other."""
    tables = re.findall(r"^<!-- settings: (.+) -->$", write_settings.PAGE.read_text(), re.MULTILINE)
    named = [name for table in tables for name in table.split(", ")]
    fields = Settings.model_fields.keys() - {"database_source", "redis_source"}

    assert sorted(named) == sorted(name.upper() for name in fields)
    assert write_settings.FIELDS.keys() == {name.upper() for name in fields}
