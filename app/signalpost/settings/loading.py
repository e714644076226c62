"""Where the values of settings are looked for, in which order, and what is said of a bad one.

Nothing here reads `os.environ` by itself: the caller hands its environment over.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from signalpost.errors import SettingError
from signalpost.settings import rules
from signalpost.settings.datafolder import StackAddresses, default_data_folder, read_stack
from signalpost.settings.variables import Settings

__all__ = ["PREFIX", "driver_url", "load_settings", "read_dotenv"]

PREFIX = "SIGNALPOST_"

_NOWHERE = "postgresql://nowhere/nothing"


def load_settings(
    environ: Mapping[str, str],
    *,
    data_folder: Path | None = None,
    dotenv: Path | None = None,
    servers: bool = True,
) -> Settings:
    """The settings of this environment.

    The database is SIGNALPOST_DATABASE_URL, else the stack in `data_folder` or
    SIGNALPOST_DATA_DIR, else DATABASE_URL, else the stack in the per-user folder; Redis likewise.
    `dotenv` names a file whose lines count where the environment says nothing; it may be absent.
    Without `servers` none is looked for, and both URLs lead nowhere.

    Raises SettingError: one line that names the variable and the rule, never the value.
    """
    values = {**read_dotenv(dotenv), **environ}
    values = {name: value.strip() for name, value in values.items() if value.strip()}
    given: dict[str, str | tuple[str, ...]] = {}
    variables: dict[str, str] = {}
    for field in Settings.model_fields:
        if field in ("database_source", "redis_source"):
            continue
        for variable in (PREFIX + field.upper(), field.upper()):
            if variable in values:
                given[field], variables[field] = values[variable], variable
                break
    if servers:
        _find_servers(values, given, variables, data_folder)
    else:
        given |= {"database_url": _NOWHERE, "database_source": "nothing set"}
        given.pop("redis_url", None)
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise SettingError(_one_line(error, variables)) from None


def driver_url(url: str) -> str:
    """`url` with the one driver that is used here: psycopg."""
    return rules.database_url(url)


def _find_servers(
    values: Mapping[str, str],
    given: dict[str, str | tuple[str, ...]],
    variables: dict[str, str],
    folder: Path | None,
) -> None:
    if folder is None and PREFIX + "DATA_DIR" in values:
        folder = rules.expanded(values[PREFIX + "DATA_DIR"])
    named = None if folder is None else _running(folder, values)
    default = default_data_folder(values)
    of_the_default = f"data folder {default}"
    for server in ("database", "redis"):
        field = f"{server}_url"
        if variables.get(field) == PREFIX + field.upper():
            source: str | None = variables[field]
        elif named is not None:
            source = _join(named, field, given, f"data folder {folder}")
        elif field in given:
            source = variables[field]
        elif given.get("database_source", of_the_default) == of_the_default:
            source = _join(read_stack(default), field, given, of_the_default)
        else:
            # The Redis of a stack that merely runs here belongs to that stack's database.
            source = None
        if source is not None:
            given[f"{server}_source"] = source
            variables.setdefault(field, source)
    if "database_url" not in given:
        raise SettingError(
            "no database: set DATABASE_URL, or start a stack of your own with `signalpost up`"
        )
    if "secret_keys" not in given and str(given["database_source"]).startswith("data folder "):
        # Keys belong to the database that they encrypt in, and to no other.
        stack = named or read_stack(default)
        given["secret_keys"] = () if stack is None else stack.secret_keys


def _running(folder: Path, values: Mapping[str, str]) -> StackAddresses | None:
    stack = read_stack(folder)
    if stack is None and PREFIX + "DATABASE_URL" not in values:
        raise SettingError(
            f"no stack runs in the data folder {folder}; "
            f"start it with `signalpost up --data {folder}`"
        )
    return stack


def _join(
    stack: StackAddresses | None, field: str, given: dict[str, str | tuple[str, ...]], source: str
) -> str | None:
    url = None if stack is None else getattr(stack, field)
    if url is None:
        return None
    given[field] = url
    return source


def read_dotenv(file: Path | None) -> dict[str, str]:
    """The variables that `file` sets; none where there is no such file. Raises SettingError."""
    if file is None or not file.is_file():
        return {}
    from dotenv import dotenv_values  # noqa: PLC0415 - producers never read the file

    try:
        # A secret may hold `${`, so nothing in a value is special.
        found = dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError):
        raise SettingError(f"{file} cannot be read; correct it or its permissions") from None
    return {name: value for name, value in found.items() if value is not None}


def _one_line(error: ValidationError, variables: Mapping[str, str]) -> str:
    problem = error.errors(include_input=False, include_url=False)[0]
    if not problem["loc"]:
        return str(problem["msg"]).removeprefix("Value error, ")
    field = str(problem["loc"][0])
    return f"{variables.get(field, field.upper())} {_rule(problem)}"


def _rule(problem: ErrorDetails) -> str:
    # pydantic's own texts speak of inputs and strings; an operator set a variable.
    context = problem.get("ctx", {})
    match problem["type"]:
        case "value_error":
            return str(context["error"])
        case "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "string_pattern_mismatch":
            return "must be 1 to 64 letters, digits, underscores and hyphens"
        case "greater_than":
            return f"must be above {context['gt']:g}"
        case "greater_than_equal" | "less_than_equal":
            limit: Any = context.get("ge", context.get("le"))
            return f"must be {int(limit)} or {'more' if 'ge' in context else 'less'}"
    return "must be a number"
