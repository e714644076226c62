"""The rules for settings that are more than a number: each takes the text and gives the value.

A rule raises ValueError with a text that says what is wanted and never repeats what was given.
"""

from __future__ import annotations

import binascii
import os.path
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from signalpost.core.alerting import LOUD_KINDS, QUIETABLE_KINDS
from signalpost.core.signing import secret_bytes
from signalpost.core.targets import read_target
from signalpost.errors import EndpointError, SecretError

__all__ = [
    "address",
    "certificates",
    "database_url",
    "expanded",
    "http_url",
    "log_format",
    "networks",
    "plain_bool",
    "quiet_kinds",
    "redis_url",
    "secret",
    "secret_keys",
    "telegram_chat",
    "telegram_token",
    "with_authority",
]

_POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")


def database_url(text: str) -> str:
    """A PostgreSQL URL, with the one driver that is used here (psycopg)."""
    scheme, separator, rest = text.partition("://")
    if scheme not in _POSTGRES or not separator:
        raise ValueError("must be a PostgreSQL URL: postgresql://user:password@host:5432/database")
    _split(text)
    return f"postgresql+psycopg://{rest}"


def redis_url(text: str) -> str:
    """A Redis URL; the database number is its path."""
    parts = _split(text)
    database = parts.path.strip("/")
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("must be a Redis URL: redis://:password@host:6379/0 (rediss:// for TLS)")
    if database and not database.isdecimal():
        raise ValueError("must end in a database number, such as redis://host:6379/0")
    return text


def address(text: str) -> str:
    """An address of this machine to listen on."""
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("must be an IP address to listen on, such as 127.0.0.1") from None


def expanded(text: str) -> Path:
    """The path, with `~` read as a home folder; as it is where there is no such account."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises RuntimeError


def certificates(text: str) -> str:
    """A file of certificates in PEM, by which servers are known; returned as an absolute path."""
    import ssl  # noqa: PLC0415 - few name a file, and every producer loads this module

    file = expanded(text).absolute()
    try:
        ssl.create_default_context(cafile=str(file))
    except OSError:  # SSLError is one
        raise ValueError("must name a readable file of certificates in PEM") from None
    return str(file)


def with_authority(redis_url: str, file: str) -> str:
    """A `rediss://` URL that names the certificates of its server; any other URL as it is."""
    try:
        parts = urlsplit(redis_url)
    except ValueError:
        return redis_url  # the rule for URLs says what is wrong
    if parts.scheme != "rediss" or "ssl_ca_certs=" in parts.query:
        return redis_url
    named = f"ssl_ca_certs={quote(str(expanded(file).absolute()))}"
    return parts._replace(query=f"{parts.query}&{named}".lstrip("&")).geturl()


def http_url(text: str) -> str:
    """An http or https URL with a host, without user, password or fragment."""
    _split(text)
    try:
        target = read_target(text)
    except EndpointError as error:
        raise ValueError(f"cannot be used: {error}") from None
    if target.authorization is not None or "@" in text.partition("://")[2].partition("/")[0]:
        raise ValueError("must hold no user and password")
    if "#" in text:
        raise ValueError("must hold no fragment (#...), which is never sent")
    return text


def log_format(text: str) -> str:
    """The form of log lines."""
    if text.lower() not in ("text", "json"):
        raise ValueError("must be text or json")
    return text.lower()


def networks(value: str | Iterable[object]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks, separated by commas; a single address is a network of one."""
    try:
        return tuple(ip_network(str(part)) for part in _parts(value))
    except ValueError:
        raise ValueError(
            "must be networks separated by commas, such as 127.0.0.0/8,10.1.0.0/16, "
            "without host bits set"
        ) from None


def quiet_kinds(value: str | Iterable[object]) -> tuple[str, ...]:
    """Kinds of alerts, separated by commas, that are not to be sent."""
    kinds = tuple(str(part) for part in _parts(value))
    if set(kinds) & set(LOUD_KINDS):
        raise ValueError(f"cannot make {_one_of(LOUD_KINDS)} quiet: a signal has ended there")
    if not set(kinds) <= set(QUIETABLE_KINDS):
        raise ValueError(f"must be kinds separated by commas, out of {', '.join(QUIETABLE_KINDS)}")
    return kinds


def secret_keys(value: str | Iterable[object]) -> tuple[str, ...]:
    """Fernet keys, separated by commas: 32 bytes each in URL-safe base64; the first encrypts."""
    keys = tuple(str(part) for part in _parts(value))
    for key in keys:
        try:
            whole = len(urlsafe_b64decode(key.encode("ascii"))) == 32
        except (binascii.Error, ValueError):
            whole = False
        if not whole:
            raise ValueError(
                "must be keys separated by commas, each 32 bytes in URL-safe base64 (44 characters)"
            )
    return keys


def secret(text: str) -> str:
    """A shared secret of at least 16 bytes."""
    try:
        secret_bytes(text)
    except SecretError as error:
        raise ValueError(f"cannot be used: {error}") from None
    return text


def telegram_token(text: str) -> str:
    """A bot's token: its number, a colon, and letters, digits, hyphens and underscores."""
    if not re.fullmatch(r"[0-9]+:[A-Za-z0-9_-]+", text):
        raise ValueError("must be a bot's token as @BotFather gives it, such as 123456:AbC-dEf")
    return text


def telegram_chat(text: str) -> str:
    """A chat's number, or the public name of a channel or group."""
    if not re.fullmatch(r"-?[0-9]+|@[A-Za-z][A-Za-z0-9_]*", text):
        raise ValueError("must be a chat's number, such as -1001234567890, or @its_public_name")
    return text


def plain_bool(value: object) -> bool:
    """True or false in the usual words."""
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("must be true or false")


def _one_of(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _parts(value: str | Iterable[object]) -> list[object]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value)


def _split(text: str) -> SplitResult:
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("must hold no blanks or control characters")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("must be a URL with a valid host and port") from None
    return parts
