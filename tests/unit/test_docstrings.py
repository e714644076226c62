from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

# monkeypatch may set the environment, the folder and sys.path; what it does by these replaces code.
REPLACING_METHODS = {"setattr", "delattr", "setitem", "delitem"}
MOCKING_MODULES = {"mock", "pytest_mock", "unittest.mock"}


def complaints(source: str) -> Iterator[str]:
    """Yields `line: what is wrong` for each breach of the house's rules for tests in `source`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test_") and not opens_with_a_sentence(node):
                yield f"{node.lineno}: {node.name} does not open with a sentence that ends in a dot"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            if mocks := imported_names(node) & MOCKING_MODULES:
                yield f"{node.lineno}: imports {', '.join(sorted(mocks))}"
        elif isinstance(node, ast.Call) and replaces_code(node.func):
            yield f"{node.lineno}: {ast.unparse(node.func)} replaces code"


def opens_with_a_sentence(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    sentence, _, _ = (ast.get_docstring(function) or "").partition("\n\n")
    first, *others = sentence.split() or [""]
    # A name of code or of a file may open a sentence as it is written.
    opens = first[:1].isupper() or not first.isalpha()
    return opens and len(others) >= 3 and sentence.endswith(".")


def imported_names(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    module = node.module or ""
    return {module, *(f"{module}.{alias.name}" for alias in node.names)}


def replaces_code(called: ast.expr) -> bool:
    return (
        isinstance(called, ast.Attribute)
        and called.attr in REPLACING_METHODS
        and "patch" in ast.unparse(called.value).lower()
    )


def test_every_test_says_what_must_be_true_and_patches_nothing() -> None:
    """Each test function opens with one sentence, and no test mocks or patches anything."""
    found = [
        f"{path.relative_to(TESTS.parent)}:{complaint}"
        for path in sorted(TESTS.rglob("*.py"))
        for complaint in complaints(path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "def test_x(): pass",
        "async def test_x(): pass",
        "def test_x():\n    '''Works.'''",
        "def test_x():\n    '''The sentence has no dot at its end'''",
        "def test_x():\n    '''works as one would expect it to.'''",
        "class TestX:\n    def test_x(self): pass",
        "import unittest.mock",
        "from unittest import mock",
        "from unittest.mock import patch",
        "def fixture(monkeypatch): monkeypatch.setattr(time, 'time', lambda: 0)",
        "with pytest.MonkeyPatch.context() as patcher: patcher.setitem(a, 'b', 1)",
    ],
)
def test_a_breach_is_noticed(source: str) -> None:
    """A missing or unfinished sentence, a mock and a patch of code are each reported once."""
    assert len(list(complaints(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "def test_x():\n    '''What comes in goes out again.'''",
        "def test_x():\n    '''What comes in\n    goes out again.\n\n    And more about it.'''",
        "def fixture(monkeypatch): monkeypatch.setenv('A', 'b')",
        "def test_x():\n    '''docs/api.md lists every name.'''",
        "def fixture(): setattr(row, 'status', 'pending')",
    ],
)
def test_what_is_allowed_passes(source: str) -> None:
    """A finished sentence, more text below it and a changed environment draw no complaint."""
    assert not list(complaints(source))
