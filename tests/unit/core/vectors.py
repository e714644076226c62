"""The signing vectors of tests/vectors as Python values."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from signalpost.core.signing import Outgoing, Profile

FILE = Path(__file__).parents[2] / "vectors" / "signing.json"

COVERED_HEADERS = {
    Profile.RFC9421: (
        "Signature-Input",
        "Signature",
        "Content-Digest",
        "X-Producer-Id",
        "X-Idempotency-Key",
        "X-Signalpost-Attempt",
        "X-Signalpost-Expires-At",
        "X-Signalpost-Replayed",
        "X-Signalpost-Sequence",
    ),
    Profile.STANDARD: ("webhook-id", "webhook-timestamp", "webhook-signature"),
    Profile.CANONICAL: ("X-Producer-Id", "X-Timestamp", "X-Signature"),
}


@dataclass(frozen=True)
class Vector:
    name: str
    outgoing: Outgoing
    url: str
    secrets: list[str]
    key_ids: list[str]
    canonical_text: str
    standard_text: str
    rfc9421_bases: list[str]
    headers: dict[str, str]

    def request(self, **changes: Any) -> dict[str, Any]:
        """The arguments of `verify` for this request, at its own time, but for the changes."""
        return {
            "method": self.outgoing.method,
            "headers": self.headers,
            "body": self.outgoing.body,
            "url": self.url,
            "secrets": self.secrets,
            "now": self.outgoing.timestamp,
            **changes,
        }


def secret(described: dict[str, str]) -> str:
    if "utf8" in described:
        return described["utf8"]
    return "whsec_" + base64.b64encode(described["whsec_of"].encode()).decode()


def accepted() -> list[Vector]:
    return [_vector(item) for item in _content()["accepted"]]


def refused() -> list[dict[str, Any]]:
    return list(_content()["refused"])


def by_name(name: str) -> Vector:
    return next(vector for vector in accepted() if vector.name == name)


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


def _vector(item: dict[str, Any]) -> Vector:
    facts, request, expected = item["facts"], item["request"], item["expected"]
    expires_at = facts["expires_at"]
    return Vector(
        name=item["name"],
        outgoing=Outgoing(
            method=request["method"],
            authority=request["authority"],
            raw_path=request["raw_path"],
            query=request["query"],
            body=request["body"].encode(),
            producer_id=facts["producer_id"],
            delivery_id=facts["delivery_id"],
            attempt=facts["attempt"],
            expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
            replayed=facts["replayed"],
            sequence=facts["sequence"],
            timestamp=datetime.fromisoformat(facts["timestamp"]),
        ),
        url=request["url"],
        secrets=[secret(described) for described in item["secrets"]],
        key_ids=item["key_ids"],
        canonical_text=expected["canonical_text"],
        standard_text=expected["standard_text"],
        rfc9421_bases=expected["rfc9421_bases"],
        headers=expected["headers"],
    )
