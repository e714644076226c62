from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from signalpost.settings import Settings

ROOT = Path(__file__).parents[2]
# In tests a wrong type is often the point, and the test's sentence says so.
SOURCES = ("app", "worker", "migrations", "docs")

# What docker compose reads from the same file, and where the embedded servers lie.
NOT_SETTINGS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_BASIC_AUTH", "GRAFANA_PASSWORD"}
NOT_SETTINGS |= {"SIGNALPOST_DATA_DIR"}

EXEMPTION = re.compile(
    r"#\s*(?:noqa:\s*|type:\s*ignore|pragma:\s*no\s+\w+)"
    r"(?P<codes>\[[\w, -]+\]|(?:[A-Z]+\d+(?:,\s*)?)*)(?P<reason>.*)$"
)


def example_names() -> set[str]:
    text = (ROOT / ".env.example").read_text()
    return set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", text, flags=re.MULTILINE))


def unexplained(source: str) -> Iterator[int]:
    """Yields the number of each line whose exemption from a check gives no reason."""
    explained: set[str] = set()
    above = ""
    for number, line in enumerate(source.splitlines(), 1):
        if found := EXEMPTION.search(line):
            reasons = (found["reason"], above if above.startswith("#") else "")
            if any(len(re.findall(r"\w+", reason)) >= 2 for reason in reasons):
                explained.add(found["codes"])
            elif found["codes"] not in explained:
                yield number
        above = line.strip()


def test_the_example_names_every_setting() -> None:
    """The example file of settings names exactly the settings that there are."""
    fields = {name.upper() for name in Settings.model_fields}
    assert example_names() - NOT_SETTINGS == fields - {"DATABASE_SOURCE", "REDIS_SOURCE"}


def test_the_example_holds_no_values() -> None:
    """A line of the example file that is not commented out is left empty, as secrets must be."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert not [line for line in lines if line and line[0] != "#" and not line.endswith("=")]


def locked(name: str) -> list[str]:
    """Returns the entries of a lock file, each with its hashes, without comments."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    return re.split(r"\n(?=[a-z0-9])", text.strip())


@pytest.mark.parametrize(
    ("name", "least"),
    [("requirements.lock", 20), ("requirements-image.lock", 20), ("requirements-build.lock", 5)],
)
def test_a_lock_names_exact_hashed_versions_and_no_index(name: str, least: int) -> None:
    """Every entry of a lock is one version with hashes, and no entry says where it comes from."""
    entries = locked(name)
    assert len(entries) > least
    assert not [e for e in entries if not re.match(r"[\w.-]+==\S+", e) or "--hash=sha256:" not in e]
    assert not re.search(r"://|--index|--extra-index|--find-links", (ROOT / name).read_text())


@pytest.mark.parametrize("name", ["requirements-image.lock", "requirements-build.lock"])
def test_the_image_runs_what_was_tested(name: str) -> None:
    """The container image installs, and is built by, the very versions that the tests ran with."""
    assert set(locked(name)) <= set(locked("requirements.lock"))


def test_every_exemption_carries_its_reason() -> None:
    """A line that is spared a check says why, at least where the file does so first."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number in unexplained(path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("x = 1  # noqa: S105", [1]),
        ("x = 1  # noqa: S105 - a status, no secret", []),
        ("x = 1  # noqa: S105  # a status, no secret", []),
        ("x = 1  # type: ignore[attr-defined]", [1]),
        ("x = 1  # type: ignore[attr-defined]  # celery has no types here", []),
        ("# a status, no secret\nx = 1  # noqa: S105", []),
        ("a  # noqa: B018 - asking is the test\nb  # noqa: B018\nc  # noqa: S105", [3]),
        ("x = 1  # pragma: no cover", [1]),
        ("x = 1  # pragma: no cover - only on macOS", []),
    ],
)
def test_an_exemption_without_a_reason_is_noticed(source: str, lines: list[int]) -> None:
    """A reason stands behind the exemption or above it, once in a file for each rule."""
    assert list(unexplained(source)) == lines
