from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import signalpost
from signalpost import direct, errors

API_PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def documented_names(module: ModuleType) -> list[str]:
    page = API_PAGE.read_text()
    [part] = re.findall(
        rf"^`from {module.__name__} import .*?(?=^`from |\Z)", page, re.MULTILINE | re.DOTALL
    )
    return re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE)


@pytest.mark.parametrize("module", [signalpost, direct], ids=lambda module: module.__name__)
def test_the_public_names_are_the_documented_ones(module: ModuleType) -> None:
    """What a door's `__all__` holds and what docs/api.md lists are the same names, each once."""
    assert sorted(module.__all__) == sorted(documented_names(module))


def test_every_error_of_sending_directly_is_at_its_door() -> None:
    """Whoever sends directly can catch each error by a name of `signalpost.direct`."""
    kinds = {name for name in errors.__all__ if issubclass(getattr(errors, name), errors.SendError)}
    assert kinds | {"RetryExhausted"} <= set(direct.__all__)


@pytest.mark.parametrize("name", signalpost.__all__)
def test_each_public_name_resolves(name: str) -> None:
    """A public name leads to a class or a function of that very name, made by this package."""
    found = getattr(signalpost, name)
    assert callable(found)
    assert found.__name__ == name
    assert found.__module__.startswith("signalpost.")


def test_a_name_that_is_not_public_is_refused() -> None:
    """The door hands out nothing but its names, and says so as any module would."""
    with pytest.raises(AttributeError, match="has no attribute 'secretbox_of_nobody'"):
        getattr(signalpost, "secretbox_of_nobody")  # noqa: B009 - the type checker knows better


def test_completion_shows_the_public_names() -> None:
    """An interactive user sees the public names before they are loaded."""
    assert set(signalpost.__all__) <= set(dir(signalpost))


def test_every_error_to_catch_is_public_or_below_one_that_is() -> None:
    """Whatever is raised on purpose can be caught by a public name."""
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), signalpost.SignalpostError)
