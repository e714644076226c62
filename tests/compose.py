"""docker-compose.yml as docker compose reads it: merged, and with variables put in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

FILE = Path(__file__).parents[1] / "docker-compose.yml"

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\})")


def read() -> dict[str, Any]:
    """The file with its merges done, variables as they stand."""
    found: dict[str, Any] = YAML(typ="safe").load(FILE)
    return found


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """`value` with `${NAME:?text}`, `${NAME:-default}` and `$$` put in, at every level.

    Raises KeyError for a variable that must be set and is not.
    """
    if isinstance(value, dict):
        return {key: interpolated(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, variables) for each in value]
    if not isinstance(value, str):
        return value

    def put_in(found: re.Match[str]) -> str:
        if found["name"] is None:
            return "$"
        if found["kind"] == "-":
            return variables.get(found["name"], found["rest"])
        return variables[found["name"]]

    return _VARIABLE.sub(put_in, value)


def environment(service: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, str]:
    """What a container of the service finds set; a name without a value comes from outside."""
    named = service.get("environment", {})
    passed = {name: variables[name] for name in named if named[name] is None and name in variables}
    return {**{name: str(value) for name, value in named.items() if value is not None}, **passed}


def check_argv(service: Mapping[str, Any]) -> list[str]:
    """The command line of the service's health check."""
    told: list[str] = service["healthcheck"]["test"]
    kind, *words = told
    if kind == "CMD":
        return words
    assert kind == "CMD-SHELL"
    return ["/bin/sh", "-c", *words]
