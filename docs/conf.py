"""How `make docs` builds the pages (docs/adr/0008); the pages themselves stay plain Markdown.

The folder of the sources is the repository's, so that links to README.md and to the code lead
somewhere in the built pages as they do on a code host.
"""

from __future__ import annotations

import inspect
import tomllib
import typing
from pathlib import Path

from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "signalpost"
author = "signalpost contributors"
version = release = PROJECT["version"]

root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**", "tests/vectors/*.md"]
exclude_patterns = ["docs/examples/strategy/data/**"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.mermaid",
]

myst_heading_anchors = 4  # links to `page.md#a-heading` are checked
myst_fence_as_directive = ["mermaid"]

default_role = "code"  # docstrings mark code as Markdown does, by single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # `environ=os.environ` must not show the environment
autodoc_default_options = {
    "members": True,
    "exclude-members": "model_config, model_construct, model_post_init, copy",  # pydantic's own
}

html_theme = "furo"
html_title = f"signalpost {release}"
html_copy_source = False
html_show_sourcelink = False

# The order of the side bar. It stands here and not in index.md, which is a plain page.
CHAPTERS = {
    "For everybody": ["README", "quick-start", "glossary", "lifecycle", "architecture"],
    "For the strategy": ["producing", "api", "reference"],
    "For the operator": [
        "operations",
        "command-line",
        "trading",
        "settings",
        "alerts",
        "performance",
        "scaling",
        "reliability",
    ],
    "For the receiver": ["receiving", "signing", "/tests/vectors/README"],
    "For whoever changes it": ["adr/README", "CHANGELOG", "CONTRIBUTING"],
}


def setup(app: Sphinx) -> None:
    """Give the index its side bar, the decisions their list, and models a readable signature."""
    app.connect("source-read", _add_lists)
    app.connect("autodoc-process-signature", _without_validators)


def _add_lists(_app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == root_doc:
        for caption, pages in CHAPTERS.items():
            source[0] += _toctree(f":caption: {caption}", ":hidden:", "", *map(_absolute, pages))
    elif docname == "docs/adr/README":
        source[0] += _toctree(":glob:", "", "0*")


def _absolute(page: str) -> str:
    return f"/{page}" if page.isupper() else f"/docs/{page}".replace("/docs//", "/")


def _toctree(*lines: str) -> str:
    return "\n".join(["", "```{toctree}", *lines, "```", ""])


def _without_validators(
    _app: Sphinx, what: str, _name: str, found: object, _options: object, *text: str | None
) -> tuple[str | None, ...] | None:
    if what != "class" or not isinstance(found, type) or not issubclass(found, BaseModel):
        return None
    types = typing.get_type_hints(found)
    signature = inspect.signature(found)
    plain = [p.replace(annotation=types.get(p.name)) for p in signature.parameters.values()]
    shown = signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)
    line = stringify_signature(shown, unqualified_typehints=True)
    return (line.replace("<factory>", "{}"), *text[1:])
