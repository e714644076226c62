"""The functions that docs/receiving.md gives to paste, run in their own languages."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.unit.core.vectors import Vector, accepted, by_name, refused, secret

ROOT = Path(__file__).parents[2]
DRIVERS = ROOT / "tests" / "snippets"
PAGE = ROOT / "docs" / "receiving.md"


@dataclass(frozen=True)
class Case:
    """A request, and whether it is genuine."""

    about: str
    line: str
    genuine: bool


def line_of(vector: Vector, change: dict[str, Any]) -> str:
    """The request with the change made, as the programs in tests/snippets read it."""
    url = change.get("url", vector.url)
    path = re.sub(r"^https://[^/?]*", "", url).partition("?")[0]
    headers = {**vector.headers, **change.get("set", {})}
    for name in change.get("remove", []):
        del headers[name]
    key = secret(change["secret"]) if "secret" in change else vector.secrets[-1]
    fields = [
        key.encode(),
        vector.outgoing.method.encode(),
        path.encode(),
        change.get("now", vector.outgoing.timestamp.isoformat()).encode(),
        change["body"].encode() if "body" in change else vector.outgoing.body,
        "\n".join(f"{name}: {value}" for name, value in headers.items()).encode(),
    ]
    return " ".join(base64.b64encode(field).decode() for field in fields)


CASES = [
    *(Case(vector.name, line_of(vector, {}), genuine=True) for vector in accepted()),
    *(
        Case(case["about"], line_of(by_name(case["vector"]), case["change"]), genuine=False)
        for case in refused()
        if "canonical" in case["profiles"]
    ),
    # Beside the vectors: what only a hostile sender would write.
    *(
        Case(about, line_of(by_name("one secret"), {"set": headers}), genuine=False)
        for about, headers in {
            "an empty signature": {"X-Signature": ""},
            "a signature that goes on": {
                "X-Signature": by_name("one secret").headers["X-Signature"] + "="
            },
            "a time that is none": {"X-Timestamp": "yesterday"},
            "a signature of another alphabet": {"X-Signature": "\u00e9" * 44},
        }.items()
    ),
]


def snippet(language: str) -> str:
    """The page's one block in that language."""
    (block,) = re.findall(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    return str(block)


def runtime(*names: str) -> str:
    """The program of that name; skips where this machine has none."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip(f"no {' or '.join(names)} on this machine")
    return found


def judged(command: Sequence[str | Path], folder: Path) -> list[str]:
    """What the program says of every case."""
    done = subprocess.run(
        command,
        cwd=folder,
        input="".join(f"{case.line}\n" for case in CASES),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def compile_with(command: Sequence[str | Path], folder: Path, **env: str) -> None:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def expected() -> dict[str, str]:
    return {case.about: "true" if case.genuine else "false" for case in CASES}


def told(answers: Sequence[str]) -> dict[str, str]:
    return dict(zip((case.about for case in CASES), answers, strict=True))


def test_the_javascript_function_judges_the_vectors(tmp_path: Path) -> None:
    """Pasted into Node.js, it takes what signalpost sends and refuses whatever differs."""
    node = runtime("node")
    program = tmp_path / "program.js"
    program.write_text(snippet("javascript") + (DRIVERS / "driver.js").read_text())

    assert told(judged([node, program], tmp_path)) == expected()


def test_the_go_function_judges_the_vectors(tmp_path: Path) -> None:
    """Compiled by Go, it takes what signalpost sends and refuses whatever differs."""
    go = runtime("go")
    (tmp_path / "receiving").mkdir()
    (tmp_path / "receiving" / "receiving.go").write_text(snippet("go"))
    (tmp_path / "main.go").write_text((DRIVERS / "driver.go").read_text())
    (tmp_path / "go.mod").write_text("module snippets\n\ngo 1.19\n")
    compile_with([go, "build", "-o", "program", "."], tmp_path)

    assert told(judged([tmp_path / "program"], tmp_path)) == expected()


def test_the_csharp_function_judges_the_vectors(tmp_path: Path) -> None:
    """Compiled by Mono, it takes what signalpost sends and refuses whatever differs."""
    compiler, mono = runtime("mcs"), runtime("mono")
    (tmp_path / "Signalpost.cs").write_text(snippet("csharp"))
    shutil.copy(DRIVERS / "Driver.cs", tmp_path)
    compile_with([compiler, "-out:program.exe", "Driver.cs", "Signalpost.cs"], tmp_path)

    assert told(judged([mono, tmp_path / "program.exe"], tmp_path)) == expected()
