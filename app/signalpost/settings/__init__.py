"""One frozen settings class and the order in which its values are looked for (docs/settings.md).

Nothing here reads `os.environ` by itself: the caller hands its environment over.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from signalpost.errors import SettingError
from signalpost.settings import rules
from signalpost.settings.datafolder import StackAddresses, default_data_folder, read_stack

__all__ = ["Settings", "driver_url", "load_settings", "read_dotenv"]

PREFIX = "SIGNALPOST_"


class Settings(BaseModel):
    """What the environment says, checked; names are the variables' in lower case.

    Times are in seconds, sizes in bytes. Values that hold secrets are left out of `repr`.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    database_url: Annotated[str, BeforeValidator(rules.database_url)] = Field(
        repr=False,
        description="PostgreSQL 15 or newer, the truth: "
        "`postgresql://user:password@host:5432/database`. All tables live in schema `signalpost`, "
        "so it may be the strategy's own database",
    )
    database_source: str = "given"
    redis_url: Annotated[str, BeforeValidator(rules.redis_url)] | None = Field(
        default=None,
        repr=False,
        description="Redis, for speed only: `redis://:password@host:6379/0`, or `rediss://` for "
        "TLS. Without it everything works, only later by seconds",
    )
    redis_source: str = "nothing set"
    redis_ca_file: Annotated[str, BeforeValidator(rules.certificates)] | None = Field(
        default=None,
        description="file of certificates (PEM) that vouch for a `rediss://` server; without it "
        "the system's authorities do. The certificate and its name are always checked",
    )
    secret_keys: Annotated[tuple[str, ...], BeforeValidator(rules.secret_keys)] = Field(
        default=(),
        repr=False,
        description="Fernet keys (32 bytes in URL-safe base64), separated by commas: the first "
        "encrypts the endpoints' secrets at rest, all decrypt. `signalpost up` makes its own for "
        "its own database; with an external database they are never made up",
    )

    producer_id: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="who enqueues: 1 to 64 letters, digits, `_` or `-`; part of every signal's id",
    )
    hmac_producer_secret: Annotated[str, BeforeValidator(rules.secret)] | None = Field(
        default=None,
        repr=False,
        description="the secret of the endpoint `default`: at least 16 bytes, as plain text or as "
        "`whsec_` and base64",
    )
    hmac_producer_enabled: Annotated[bool, BeforeValidator(rules.plain_bool)] = Field(
        default=True,
        description="where a worker finds this false at its start it sends nothing; signals wait "
        "meanwhile, and expire",
    )

    outbound_server_url: Annotated[str, BeforeValidator(rules.http_url)] | None = Field(
        default=None,
        description="the receiver's URL, `https://host/path`; with `HMAC_PRODUCER_SECRET` it "
        "defines the endpoint `default`. A change is audited",
    )
    outbound_timeout_seconds: float = Field(
        default=30, ge=5, le=300, description="seconds that one attempt may take in all"
    )
    outbound_max_body_size: int = Field(
        default=65536, ge=1024, le=10 * 1024 * 1024, description="bytes that a body may have"
    )
    outbound_allow_networks: Annotated[
        tuple[IPv4Network | IPv6Network, ...], BeforeValidator(rules.networks)
    ] = Field(
        default=(),
        description="networks, separated by commas, in which private and loopback targets and "
        "plain `http://` are allowed, such as `10.1.0.0/16`",
    )
    max_retries: int = Field(
        default=5, ge=0, le=1000, description="retries after the first attempt"
    )
    retry_delay_seconds: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="seconds before the first retry; doubled each time, at most 120, plus jitter",
    )
    signal_ttl_seconds: float = Field(
        default=600,
        gt=0,
        le=366 * 86400,
        description="seconds that a delivery lives where neither the signal, nor `ttl=`, nor the "
        "endpoint says otherwise",
    )
    retention_days: int = Field(
        default=30, ge=1, le=36500, description="days that finished deliveries are kept"
    )

    ops_telegram_bot_token: Annotated[str, BeforeValidator(rules.telegram_token)] | None = Field(
        default=None,
        repr=False,
        description="token of the Telegram bot that writes to you; without it, alerts are log "
        "lines",
    )
    ops_telegram_chat_id: Annotated[str, BeforeValidator(rules.telegram_chat)] | None = Field(
        default=None,
        description="the chat that it writes to; belongs with the token: set both or none",
    )
    ops_telegram_base_url: Annotated[str, BeforeValidator(rules.http_url)] | None = Field(
        default=None,
        description="a Bot API server of your own, such as `http://127.0.0.1:8081`; without it "
        "Telegram's",
    )

    alert_window_seconds: float = Field(
        default=60,
        ge=0,
        le=240,
        description="seconds after a message in which further alerts of its kind are gathered; "
        "then they go out as one message",
    )
    alert_messages_per_minute: int = Field(
        default=10,
        ge=1,
        le=60,
        description="messages in any minute at most, of all kinds and all ops workers together",
    )
    alert_quiet_kinds: Annotated[tuple[str, ...], BeforeValidator(rules.quiet_kinds)] = Field(
        default=(),
        description="kinds of alerts, separated by commas, that are stored and not sent; `dead`, "
        "`expired` and `corrected` cannot be quiet",
    )
    alert_heartbeat_hours: int = Field(
        default=0,
        ge=0,
        le=168,
        description="hours between two messages that all is well; 0 sends none",
    )
    heartbeat_url: Annotated[str, BeforeValidator(rules.http_url)] | None = Field(
        default=None,
        repr=False,
        description="URL of a monitor outside, fetched each minute by the ops worker, only while "
        "nothing is overdue by 60 s and no alert unsent for 5 minutes; it alarms when it hears "
        "nothing. Whoever knows the URL can feign that all is well: it is never logged",
    )

    log_format: Annotated[str, BeforeValidator(rules.log_format)] = Field(
        default="text",
        description="`text`, or `json`: each log line is an object, with ids and labels as fields",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="each deliver worker, ops worker and beat serves `/metrics` and `/healthz` on "
        "this port plus its index; without it, none does",
    )
    metrics_address: Annotated[str, BeforeValidator(rules.address)] = Field(
        default="127.0.0.1", description="address of this machine to serve them on"
    )
    process_index: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="a process's index among those of its machine, for its metrics port; "
        "`signalpost up` gives 0 to the ops worker and 1, 2 ... to the deliver workers",
    )

    @model_validator(mode="before")
    @classmethod
    def _redis_by_its_own_authority(cls, values: dict[str, Any]) -> dict[str, Any]:
        # In the URL, since that is what every client of Redis is handed.
        url, file = values.get("redis_url"), values.get("redis_ca_file")
        if url is None or file is None:
            return values
        return {**values, "redis_url": rules.with_authority(str(url), str(file))}

    @model_validator(mode="after")
    def _telegram_is_whole(self) -> Settings:
        if (self.ops_telegram_bot_token is None) != (self.ops_telegram_chat_id is None):
            raise ValueError(
                "OPS_TELEGRAM_BOT_TOKEN and OPS_TELEGRAM_CHAT_ID belong together: set both or none"
            )
        return self


def load_settings(
    environ: Mapping[str, str], *, data_folder: Path | None = None, dotenv: Path | None = None
) -> Settings:
    """The settings of this environment.

    The database is SIGNALPOST_DATABASE_URL, else the stack in `data_folder` or
    SIGNALPOST_DATA_DIR, else DATABASE_URL, else the stack in the per-user folder; Redis likewise.
    `dotenv` names a file whose lines count where the environment says nothing; it may be absent.

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
    _find_servers(values, given, variables, data_folder)
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
            return f"must be above {context['gt']}"
        case "greater_than_equal" | "less_than_equal":
            limit: Any = context.get("ge", context.get("le"))
            return f"must be {int(limit)} or {'more' if 'ge' in context else 'less'}"
    return "must be a number"
