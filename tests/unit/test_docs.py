"""The documentation says what the code does, as far as a machine can tell."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from docs import write_settings
from signalpost.core.lifecycle import LEGAL_MOVES
from signalpost.settings import Settings
from tests.pages import PAGES, ROOT, Block, blocks

_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
_FENCED = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)

PYTHON_BLOCKS = blocks("python")
# Which languages are run, and where; `text`, `json` and pictures hold nothing to run.
RUN_BY = {
    "python": "the test that asks for the block, below",
    "sh": "tests/integration/test_page_commands.py, or a test that walks the page",
    "javascript": "tests/integration/test_snippets.py",
    "go": "tests/integration/test_snippets.py",
    "csharp": "tests/integration/test_snippets.py",
}
NOTHING = {"text", "json", "mermaid"}


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


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=str)
def test_every_python_block_compiles(block: Block) -> None:
    """A reader can paste any Python block of the documentation without a syntax error."""
    compile(block.text, str(block), "exec")


@cache
def asked_for() -> set[tuple[str, str]]:
    """The page and the beginning of each Python block, or page of them, that a test asks for."""
    calls = (
        node
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id in ("shown_on", "python_block")
    )
    words = ([a.value for a in call.args if isinstance(a, ast.Constant)] for call in calls)
    return {(str(page), "".join(map(str, first_line))) for page, *first_line in words if page}


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=str)
def test_every_python_block_is_run_by_a_test(block: Block) -> None:
    """Some test runs each Python block, by itself or with all the others of its page."""
    begins = [first for page, first in asked_for() if page == block.page]

    assert any(block.text.startswith(first) for first in begins), "no test asks for this block"


def test_no_block_escapes_the_tests() -> None:
    """Every fence is read as a block, and says a language that is run or holds nothing to run."""
    fences = sum(
        line.lstrip().startswith("```") for page in PAGES for line in _lines_of(ROOT / page)
    )
    strange = [f"{b} {b.language}" for b in blocks() if b.language not in NOTHING.union(RUN_BY)]

    assert strange == []
    assert fences == 2 * len(blocks())


def _lines_of(page: Path) -> list[str]:
    return page.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    """No page links to a file that is not there."""
    text = _FENCED.sub("", (ROOT / page).read_text(encoding="utf-8"))
    targets = [m[0] for m in _LINK.findall(text) if not re.match(r"[a-z]+:", m[0])]

    assert [t for t in targets if not ((ROOT / page).parent / t).exists()] == []


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
