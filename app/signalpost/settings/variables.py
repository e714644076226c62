"""The settings class: every variable with its type, its limits, its default and its meaning.

docs/settings.md and .env.example are made from what stands here.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from signalpost.settings import rules

__all__ = ["Settings"]


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
