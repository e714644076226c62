from __future__ import annotations

import inspect
import pickle
import re

import pytest

from signalpost import errors

CLASSES = [
    member for _, member in inspect.getmembers(errors, inspect.isclass) if member is not type
]


def test_the_tree_in_the_docstring_is_the_hierarchy() -> None:
    """Each class stands in the drawn tree, under its own base and nowhere else."""
    drawn: dict[str, str] = {}
    ancestors: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ((?:[│├└─ ]{4})*)([A-Z]\w+)(?: |$)", line)
        if found:
            depth = len(found[1]) // 4
            ancestors[depth:] = [found[2]]
            drawn[found[2]] = ancestors[depth - 1] if depth else "Exception"
    assert drawn == {member.__name__: member.__mro__[1].__name__ for member in CLASSES}


def test_all_names_are_exported() -> None:
    """The explicit list of exports holds every class and nothing else."""
    assert errors.__all__ == sorted(member.__name__ for member in CLASSES)


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_without_a_message_says_what_to_do(error: type[Exception]) -> None:
    """Raised bare, an error reads as one line of at least five words."""
    text = str(error())
    assert "\n" not in text
    assert len(text.split()) >= 5


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_survives_pickling(error: type[Exception]) -> None:
    """An error that crosses a process border keeps its class and its text."""
    raised = error("the remedy")
    copy = pickle.loads(pickle.dumps(raised))  # noqa: S301  our own bytes
    assert type(copy) is error
    assert str(copy) == str(raised)
    assert "the remedy" in str(copy)


def test_a_signal_error_lists_every_problem() -> None:
    """Both broken rules are readable one by one and together."""
    error = errors.SignalError("side: must be buy or sell", "reason: is required")
    assert error.problems == ("side: must be buy or sell", "reason: is required")
    assert str(error) == "signal refused: side: must be buy or sell; reason: is required"
