"""Before a worker becomes Celery: what only a person can mend is one line, not a log of retries.

A server that is merely away is no reason not to start: workers wait for theirs.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from signalpost.cli.explaining import explain
from signalpost.cli.joining import open_engine
from signalpost.cli.printing import note
from signalpost.errors import SettingError

if TYPE_CHECKING:
    from signalpost.cli.roles import Role
    from signalpost.settings import Settings

__all__ = ["check_port", "check_start", "redis_refusal"]

_ANSWER_SECONDS = 2.0
_LASTING = ("password", "no such database or role")
"""In the explanation of an error that waiting does not mend."""


def check_start(settings: Settings, role: Role) -> None:
    """Refuse a start of this role that cannot go well with these settings.

    Raises SettingError, EndpointError, SchemaError, or SQLAlchemy's error for a login refused.
    """
    if settings.redis_url is None:
        raise SettingError("no Redis: set REDIS_URL; Celery cannot run without one")
    if refusal := redis_refusal(settings):
        raise SettingError(refusal)
    if role == "deliver":
        from signalpost.repository.default_endpoint import described_default

        if not settings.secret_keys:
            raise SettingError(
                "SECRET_KEYS is not set; set it to the keys that the endpoints were added with"
            )
        described_default(settings)
    if role in ("deliver", "ops"):
        _check_metrics_port(settings)
        _check_tables(settings)


def check_port(environment: dict[str, str]) -> None:
    """Refuse a port for Flower that somebody has. Raises SettingError."""
    host, port = environment["FLOWER_ADDRESS"], environment["FLOWER_PORT"]
    if why := _unusable(host, port):
        raise SettingError(
            f"Flower cannot listen on port {port} of {host} ({why}); set FLOWER_PORT to another"
        )


def redis_refusal(settings: Settings) -> str | None:
    """One line where Redis refuses the login; None where it does not, also where it is away."""
    if settings.redis_url is None:
        return None
    import redis

    client = redis.Redis.from_url(
        settings.redis_url, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS
    )
    try:
        client.ping()
    except (redis.exceptions.RedisError, OSError) as error:
        refused = isinstance(error, redis.exceptions.AuthenticationError)
        if refused or str(error).startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
            return f"Redis refuses the password; correct it in {settings.redis_source}"
    finally:
        client.close()
    return None


def _check_metrics_port(settings: Settings) -> None:
    if settings.metrics_port is None:
        return
    host, port = settings.metrics_address, settings.metrics_port + settings.process_index
    if why := _unusable(host, port):
        raise SettingError(
            f"metrics cannot be served on port {port} of {host} ({why}); choose another "
            "METRICS_PORT, or give each worker of this machine a PROCESS_INDEX of its own"
        )


def _unusable(host: str, port: int | str) -> str | None:
    """Why nothing can listen there; None where something can."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind((host, int(port)))
    except OSError as error:
        return str(error.strerror).lower()
    except (ValueError, OverflowError):
        return "it is no port"
    return None


def _check_tables(settings: Settings) -> None:
    try:
        with open_engine(settings):
            return
    except (SQLAlchemyError, OSError) as error:
        told = explain(error)
        if any(telltale in told for telltale in _LASTING):
            raise
    note("the database does not answer yet; the worker waits for it")
