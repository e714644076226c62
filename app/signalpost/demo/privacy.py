"""The search for what must never spill: secrets, tokens, and the private part of a body.

Prices are compared as whole numbers of four decimals, so that a part of a timestamp that happens
to read the same is no finding; every run of base64 is searched decoded as well, since messages in
Redis hold their arguments that way.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from signalpost.errors import SignalpostError

__all__ = ["Finding", "Needles"]

_NUMBER = re.compile(rb"(?<![\d.])\d+\.\d{4}(?!\d)")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something private was seen: what kind of thing, where, at which byte; never the thing."""

    kind: str
    place: str
    offset: int


class Needles:
    """What to search for, taken from the secrets and the stored bodies of a run."""

    def __init__(self, secrets: Mapping[str, str], bodies: Iterable[bytes]) -> None:
        """Take the needles.

        Args:
            secrets: what each is called, and the secret as it is written down.
            bodies: the exact bodies of signals, as they went over the wire.

        Raises:
            SignalpostError: there is nothing to search for, so that the search would prove nothing.
        """
        private = [json.loads(body, parse_float=str, parse_int=str) for body in bodies]
        self._numbers = {number for body in private for number in _exact_numbers(body)}
        reasons = {str(body["reason"]) for body in private}
        if not self._numbers or not reasons or not all(secrets.values()):
            raise SignalpostError("the search for private things has nothing to search for")
        self._texts = {name: _any_of([secret]) for name, secret in secrets.items()}
        self._texts["reason"] = _any_of(_spellings(reasons))

    def search(self, place: str, content: bytes) -> Iterator[Finding]:
        """Yield what is found in ``content``, which came from ``place``."""
        yield from self._search_plain(place, content)
        for run in _BASE64.finditer(content):
            decoded = _decoded(run.group())
            if decoded:
                yield from self._search_plain(f"{place} (base64)", decoded)

    def _search_plain(self, place: str, content: bytes) -> Iterator[Finding]:
        for kind, pattern in self._texts.items():
            yield from (Finding(kind, place, hit.start()) for hit in pattern.finditer(content))
        for hit in _NUMBER.finditer(content):
            if hit.group() in self._numbers:
                yield Finding("price", place, hit.start())


def _exact_numbers(value: Any) -> Iterator[bytes]:
    """Yield the numbers in a body that are told apart by four decimals."""
    if isinstance(value, dict):
        for member in value.values():
            yield from _exact_numbers(member)
    elif isinstance(value, list):
        for member in value:
            yield from _exact_numbers(member)
    elif isinstance(value, str) and _NUMBER.fullmatch(value.encode()):
        yield value.encode()


def _spellings(texts: Iterable[str]) -> Iterator[str]:
    """Yield each text as it is and as JSON writes it."""
    for each in texts:
        yield each
        yield json.dumps(each)[1:-1]


def _any_of(texts: Iterable[str]) -> re.Pattern[bytes]:
    escaped = sorted({re.escape(each.encode()) for each in texts})
    return re.compile(b"|".join(escaped))


def _decoded(run: bytes) -> bytes:
    for altchars in (None, b"-_"):
        try:
            return base64.b64decode(run + b"=" * (-len(run) % 4), altchars, validate=True)
        except (binascii.Error, ValueError):
            continue
    return b""
