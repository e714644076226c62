"""What a signed request carries: header names, the facts in them, and how they are read back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from signalpost.core.identity import PRODUCER_ID
from signalpost.core.instants import instant, since_1970
from signalpost.errors import SignatureError

USER_AGENT = "signalpost/1"
"""The 1 is the wire format's version, not the library's."""

NEVER = "never"
"""X-Signalpost-Expires-At of a delivery without expiry, since an absent header proves nothing."""

_DELIVERY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,8}")
_SEQUENCE = re.compile(r"0|[1-9][0-9]{0,17}")
_UNIX_SECONDS = re.compile(r"[0-9]{1,11}")
_BOOLEAN = re.compile(r"true|false")
_METHOD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,32}")
_VISIBLE_ASCII = re.compile(r"[!-~]+")
_URL = re.compile(r"(https?)://([^/?#@]+)(/[^?#]*)?(?:\?([^#]*))?", re.IGNORECASE)


class Profile(StrEnum):
    """Which of a request's three signatures a receiver trusts; it never falls back to another."""

    RFC9421 = "rfc9421"
    STANDARD = "standard"
    CANONICAL = "canonical"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One attempt's request, as far as the signatures cover it.

    authority is the Host header (host[:port], default port left out), raw_path and query are as
    sent ("" for none, query without "?"), expires_at and timestamp are aware.
    """

    method: str
    authority: str
    raw_path: str
    query: str
    body: bytes
    producer_id: str
    delivery_id: str
    attempt: int
    expires_at: datetime | None
    replayed: bool
    sequence: int | None
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verified request proves; None for whatever the profile's signature does not cover.

    expires_at is also None, in the RFC 9421 profile, for a delivery that never expires.
    """

    profile: Profile
    producer_id: str | None
    delivery_id: str | None
    timestamp: datetime
    attempt: int | None = None
    expires_at: datetime | None = None
    replayed: bool | None = None
    sequence: int | None = None


class Incoming:
    """A received request; reading anything malformed, missing or doubled is a SignatureError.

    url is the receiver's own public URL with the path and query as received: proxies rewrite Host.
    """

    def __init__(self, method: object, headers: object, body: object, url: object) -> None:
        text = url if isinstance(url, str) else ""
        found = _URL.fullmatch(text) if _VISIBLE_ASCII.fullmatch(text) else None
        if found is None:
            raise SignatureError("url must be this endpoint's public http:// or https:// URL")
        if not (isinstance(method, str) and _METHOD.fullmatch(method)):
            raise SignatureError("the method is malformed")
        if not isinstance(body, bytes | bytearray | memoryview):
            raise SignatureError("the body must be given as the bytes that were received")
        self.method = method
        self.body = bytes(body)
        self.authority = _without_default_port(found[1].lower(), found[2].lower())
        self.raw_path = found[3] or "/"
        self.query = found[4] or ""
        self._fields: dict[str, str] = {}
        self._doubled: set[str] = set()
        # Not by `isinstance`: some frameworks' headers are no Mapping, and have its items.
        items: Callable[[], Iterable[tuple[object, object]]] | None
        items = getattr(headers, "items", None)
        if items is None:
            raise SignatureError("headers must be given as a mapping of names to values")
        for name, value in items():
            if not (isinstance(name, str) and isinstance(value, str)):
                raise SignatureError("headers must be given as text")
            # The same name may come in two spellings, or twice from a multidict.
            if name.lower() in self._fields:
                self._doubled.add(name.lower())
            self._fields[name.lower()] = value

    def has(self, name: str) -> bool:
        """Whether the header is there, once or more often."""
        return name.lower() in self._fields

    def header(self, name: str) -> str:
        """The value of a header that must be there exactly once, without surrounding space."""
        key = name.lower()
        if key not in self._fields:
            raise SignatureError(f"the {name} header is missing")
        if key in self._doubled:
            raise SignatureError(f"the {name} header is there more than once")
        value = self._fields[key].strip(" \t")
        if not (value.isascii() and value.isprintable()):
            raise SignatureError(f"the {name} header is malformed")
        return value

    def producer_id(self) -> str:
        """X-Producer-Id."""
        return self._matching("X-Producer-Id", PRODUCER_ID)

    def delivery_id(self, name: str) -> str:
        """The delivery's id from `webhook-id` or `X-Idempotency-Key`."""
        return self._matching(name, _DELIVERY_ID)

    def check_ids_agree(self) -> None:
        """Refuses a request whose two headers name different deliveries, in every profile."""
        if not (self.has("webhook-id") and self.has("X-Idempotency-Key")):
            return
        if self.header("webhook-id") != self.header("X-Idempotency-Key"):
            raise SignatureError("the webhook-id and X-Idempotency-Key headers differ")

    def timestamp(self) -> datetime:
        """X-Timestamp, any RFC 3339 time with zone, in UTC."""
        return self._instant("X-Timestamp")

    def unix_seconds(self, name: str) -> datetime:
        """A header of whole seconds since 1970, in UTC."""
        return since_1970(int(self._matching(name, _UNIX_SECONDS)))

    def attempt(self) -> int:
        """X-Signalpost-Attempt, from 1."""
        return int(self._matching("X-Signalpost-Attempt", _ATTEMPT))

    def expires_at(self) -> datetime | None:
        """X-Signalpost-Expires-At; None for `never`."""
        if self.header("X-Signalpost-Expires-At") == NEVER:
            return None
        return self._instant("X-Signalpost-Expires-At")

    def replayed(self) -> bool:
        """X-Signalpost-Replayed."""
        return self._matching("X-Signalpost-Replayed", _BOOLEAN) == "true"

    def sequence(self) -> int | None:
        """X-Signalpost-Sequence; None where the endpoint is not ordered."""
        if not self.has("X-Signalpost-Sequence"):
            return None
        return int(self._matching("X-Signalpost-Sequence", _SEQUENCE))

    def _matching(self, name: str, form: re.Pattern[str]) -> str:
        value = self.header(name)
        if not form.fullmatch(value):
            raise SignatureError(f"the {name} header is malformed")
        return value

    def _instant(self, name: str) -> datetime:
        try:
            return instant(self.header(name))
        except ValueError:
            raise SignatureError(f"the {name} header is malformed") from None


def check_fresh(name: str, timestamp: datetime, *, now: datetime, tolerance_seconds: float) -> None:
    """SignatureError where the signature is older or newer than the tolerance."""
    off = (now - timestamp).total_seconds()
    # Written so that a tolerance of NaN refuses.
    if not abs(off) <= tolerance_seconds:
        side = "behind" if off > 0 else "ahead of"
        raise SignatureError(
            f"{name} is {abs(off):.0f} s {side} this clock, {tolerance_seconds:g} s are allowed: "
            "an old request, or a wrong clock"
        )


def _without_default_port(scheme: str, authority: str) -> str:
    host, colon, port = authority.rpartition(":")
    if colon and port in {"", "443" if scheme == "https" else "80"}:
        return host
    return authority
