"""Who sent a signal and how it is recognised: producer ids, keys, and ids derived from them."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Literal
from uuid import UUID

from signalpost.errors import ConfigurationError, SignalError

MAX_KEY_LENGTH = 200

PRODUCER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def check_producer_id(value: object) -> str:
    """The producer id as it is; errors.ConfigurationError where it breaks the rule."""
    if isinstance(value, str) and PRODUCER_ID.fullmatch(value):
        return value
    raise ConfigurationError(
        "producer_id must be 1 to 64 letters, digits, underscores and hyphens; "
        "give one to Producer() or set PRODUCER_ID"
    )


def check_key(value: object) -> str:
    """The producer's idempotency key as it is; errors.SignalError where it cannot be one."""
    if isinstance(value, str) and 0 < len(value) <= MAX_KEY_LENGTH and value.isprintable():
        return value
    raise SignalError(f"key: must be a printable text of 1 to {MAX_KEY_LENGTH} characters")


def derived_id(kind: Literal["key", "body", "direct"], producer_id: str, material: bytes) -> UUID:
    """The id of a signal that came without one: the same on every machine and after a restart.

    The first 16 bytes of SHA-256 over `signalpost:`, kind, NUL, producer id, NUL and the material
    (the producer's key in UTF-8, or the body without id; for a delivery without outbox the URL, NUL
    and the body), as a UUID of version 8 (RFC 9562, 5.8).
    """
    digest = sha256(f"signalpost:{kind}\0{producer_id}\0".encode() + material).digest()
    bits = int.from_bytes(digest[:16], "big")
    # UUID(version=8) is unknown to Python before 3.14, so its six bits are set by hand.
    bits = bits & ~(0xF000 << 64) & ~(0xC000 << 48) | 0x8000 << 64 | 0x8000 << 48
    return UUID(int=bits)


def signal_id(value: object) -> UUID:
    """The id a producer gave, a UUID or its text with hyphens; ValueError for anything else."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, str) and _UUID.fullmatch(value):
        return UUID(value)
    raise ValueError("must be a UUID such as 8f14e45f-ceea-8167-9a36-dedd4bea2543")
