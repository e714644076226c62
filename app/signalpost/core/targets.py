"""What an endpoint's URL becomes on the wire.

The one place that decides the Host header and the request line, so that what is signed is what is
sent: the signer takes :func:`wire_target`, the sender :func:`read_target`, and nothing in between
quotes or normalises again. Pure.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from urllib.parse import quote, unquote_to_bytes

import idna

from signalpost.errors import EndpointError

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>(?:/[^?#]*)?)(?:\?(?P<query>[^#]*))?(?:#.*)?",
    re.IGNORECASE,
)
_AUTHORITY = re.compile(
    r"(?:(?P<userinfo>.*)@)?(?P<host>\[[^\[\]@]*\]|[^:@\[\]]*)(?::(?P<port>[0-9]{0,5}))?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"(?=.{1,254}$)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# RFC 3986, section 3.3: what a path may hold beside letters, digits, "-._~" and "%XX".
_PATH_SAFE = "/:@!$&'()*+,;=%"
_QUERY_SAFE = _PATH_SAFE + "?"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart into what each layer needs; all of it ASCII."""

    scheme: str
    """`http` or `https`."""
    host: str
    """To resolve, connect and verify the certificate by: lower case, no brackets."""
    port: int
    authority: str
    """The Host header: the default port left out, IPv6 in brackets."""
    raw_path: str
    query: str
    """Without the question mark; empty if there is none."""
    authorization: str | None = field(default=None, repr=False)
    """The Basic credentials (RFC 7617) of a URL that carries a user and a password."""

    @property
    def request_target(self) -> str:
        """The origin-form of the request line (RFC 9112, section 3.2.1)."""
        return f"{self.raw_path}?{self.query}" if self.query else self.raw_path


@lru_cache(maxsize=4096)
def read_target(url: str) -> Target:
    """Take an endpoint's URL apart.

    The path and the query stay as they are written, dot segments, empty segments and all percent
    escapes included; only what RFC 3986 does not allow there is escaped. A fragment is dropped.

    Raises:
        EndpointError: the URL cannot be sent to; the message never holds the URL, which may carry
            a password.
    """
    parts = _URL.fullmatch(url)
    if parts is None or _CONTROL.search(url):
        raise EndpointError("the URL must look like https://example.com/hook")
    scheme = parts["scheme"].lower()
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        raise EndpointError("the URL needs a host and at most a port, as in https://host:8443/")
    host = _host(authority["host"])
    port = int(authority["port"] or _DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise EndpointError("the URL's port must be between 1 and 65535")
    shown = f"[{host}]" if ":" in host else host
    return Target(
        scheme=scheme,
        host=host,
        port=port,
        authority=shown if port == _DEFAULT_PORTS[scheme] else f"{shown}:{port}",
        raw_path=_escaped(parts["path"], _PATH_SAFE) or "/",
        query=_escaped(parts["query"] or "", _QUERY_SAFE),
        authorization=_basic(authority["userinfo"]),
    )


def wire_target(url: str) -> tuple[str, str, str]:
    """What the signer must sign: the Host header, the raw path and the raw query (without `?`).

    Raises:
        EndpointError: as :func:`read_target`.
    """
    target = read_target(url)
    return target.authority, target.raw_path, target.query


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1])) if "%" not in text else _no_host()
        except AddressValueError:
            return _no_host()
    name = text.lower()
    if not name.isascii():
        try:
            # UTS 46 maps full-width digits and dots too, so the address guard sees what they mean.
            name = idna.encode(text, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return _no_host()
    return name if _NAME.fullmatch(name) else _no_host()


def _no_host() -> str:
    raise EndpointError("the URL's host is neither a name nor an address")


def _escaped(text: str, safe: str) -> str:
    try:
        return quote(_STRAY_PERCENT.sub("%25", text), safe=safe)
    except UnicodeEncodeError:
        raise EndpointError("the URL holds half a character; write it anew") from None


def _basic(userinfo: str | None) -> str | None:
    if not userinfo:
        return None
    user, _, password = userinfo.partition(":")
    credentials = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return "Basic " + base64.b64encode(credentials).decode("ascii")
