"""Writes what the settings class says of itself into docs/settings.md and .env.example.

`make fmt` runs it. In the page, each table between `<!-- settings: NAME, NAME -->` and
`<!-- end -->` is written anew for the names that stand there; in the example, the comment above
each `NAME=`, and the default behind it. Everything else is left as it is: order, headings, prose.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from signalpost.settings import Settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "settings.md"
EXAMPLE = ROOT / ".env.example"

FIELDS: dict[str, FieldInfo] = {
    name.upper(): field for name, field in Settings.model_fields.items() if field.description
}

_TABLE = re.compile(
    r"^<!-- settings: ([A-Z_, \n]+) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL
)
_LINE = re.compile(r"^(?:# (?!\w+=).*\n)*(?P<off># )?(?P<name>[A-Z_]+)=.*$", re.MULTILINE)


def page(text: str) -> str:
    """The page's text, with every table as the code has it now."""
    return _TABLE.sub(_table, text)


def example(text: str) -> str:
    """The example's text, with every comment and default as the code has them now."""
    return _LINE.sub(_commented, text)


def _table(found: re.Match[str]) -> str:
    rows = [f"<!-- settings: {found[1]} -->", "| variable | default | meaning |", "|---|---|---|"]
    for name in re.findall(r"\w+", found[1]):
        field = FIELDS[name]
        rows.append(f"| `{name}` | {_default(field) or 'none'} | {_meaning(field)} |")
    return "\n".join([*rows, "<!-- end -->"])


def _commented(found: re.Match[str]) -> str:
    field = FIELDS.get(found["name"])
    if field is None:
        return found[0]
    meaning = _meaning(field).replace("`", "")
    comment = textwrap.fill(
        meaning[0].upper() + meaning[1:],
        width=99,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"{comment}\n{found['off'] or ''}{found['name']}={_default(field)}"


def _default(field: FieldInfo) -> str:
    default: Any = field.default
    if default is PydanticUndefined or default is None or default == ():
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default)


def _meaning(field: FieldInfo) -> str:
    limits = {
        word: value
        for rule in field.metadata
        for word in ("ge", "gt", "le")
        if (value := getattr(rule, word, None)) is not None
    }
    if "ge" in limits:
        return f"{field.description} ({limits['ge']} to {limits['le']})"
    if "gt" in limits:
        return f"{field.description} (above {limits['gt']}, at most {limits['le']})"
    return str(field.description)


def stale() -> list[Path]:
    """The files that are not as the code has it; the others are as they should be."""
    return [file for file, write in WRITERS.items() if write(_read(file)) != _read(file)]


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


WRITERS = {PAGE: page, EXAMPLE: example}


def main(arguments: list[str]) -> int:
    """Write what is stale, or with `--check` only name it and fail."""
    files = stale()
    if arguments == ["--check"]:
        for file in files:
            sys.stderr.write(
                f"{file.relative_to(ROOT)} is not as the settings class has it: make fmt\n"
            )
        return 1 if files else 0
    for file in files:
        file.write_text(WRITERS[file](_read(file)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
