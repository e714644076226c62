"""HTTP Message Signatures (RFC 9421) with hmac-sha256, and Content-Digest (RFC 9530).

The signature base is written here by hand: one line a component, `"name": value`, and last the
`@signature-params` line, which repeats what Signature-Input says.
"""

from __future__ import annotations

import hmac
import re
from binascii import b2a_base64
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from signalpost.core import structured
from signalpost.core.instants import since_1970
from signalpost.core.wire import Incoming, Outgoing, Profile, Verified, check_fresh
from signalpost.errors import SignatureError

LABEL = "signalpost"
"""The signature by the current key; older keys sign as signalpost-previous, -previous-2 ..."""

COVERED = (
    "@method",
    "@authority",
    "@path",
    "@query",
    "content-digest",
    "x-producer-id",
    "x-idempotency-key",
    "x-signalpost-attempt",
    "x-signalpost-expires-at",
    "x-signalpost-replayed",
)
SEQUENCE = "x-signalpost-sequence"
"""Covered besides, where the request carries it."""

# What is the same for each request, made once.
_PLAIN = " ".join(f'"{name}"' for name in COVERED)
_NUMBERED = f'{_PLAIN} "{SEQUENCE}"'

_OUR_LABELS = re.compile(r"signalpost(?:-previous(?:-[2-9])?)?")
_FIELD_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_DERIVED = frozenset(COVERED[:4])


def base64_text(data: bytes) -> str:
    """Standard base64 with padding."""
    return b2a_base64(data, newline=False).decode()


def hmac_base64(key: bytes, message: bytes) -> str:
    """base64(HMAC-SHA256(key, message))."""
    return base64_text(hmac.digest(key, message, "sha256"))


def sign_http(
    outgoing: Outgoing,
    headers: dict[str, str],
    *,
    body_digest: str,
    keys: Sequence[bytes],
    key_ids: Sequence[str],
) -> None:
    """Adds Content-Digest, Signature-Input and Signature to headers that hold all other facts.

    body_digest is base64(sha256(body)). ValueError where a key id is not printable ASCII.
    """
    headers["Content-Digest"] = f"sha-256=:{body_digest}:"
    values = {name.lower(): value for name, value in headers.items()}
    values["@method"] = outgoing.method
    values["@authority"] = outgoing.authority.lower()
    values["@path"] = outgoing.raw_path or "/"
    values["@query"] = "?" + outgoing.query
    lines = "".join([f'"{name}": {values[name]}\n' for name in COVERED])
    components = _PLAIN
    if outgoing.sequence is not None:
        lines += f'"{SEQUENCE}": {values[SEQUENCE]}\n'
        components = _NUMBERED
    created = int(outgoing.timestamp.timestamp())
    inputs, signatures = [], []
    for number, (key, key_id) in enumerate(zip(keys, key_ids, strict=True)):
        params = f"({components});created={created};keyid={structured.quoted(key_id)}"
        base = f'{lines}"@signature-params": {params}'
        inputs.append(f"{_label(number)}={params}")
        signatures.append(f"{_label(number)}=:{hmac_base64(key, base.encode())}:")
    headers["Signature-Input"] = ", ".join(inputs)
    headers["Signature"] = ", ".join(signatures)


def verify_http(
    incoming: Incoming, keys: Sequence[bytes], *, now: datetime, tolerance_seconds: float
) -> Verified:
    """The facts that a signature of ours covers; SignatureError for anything less.

    Other parties' labels are ignored. Each of ours must be sound, and one must match one of the
    keys, whatever its keyid says.
    """
    inputs = _dictionary(incoming, "Signature-Input")
    signatures = _dictionary(incoming, "Signature")
    ours = [label for label in inputs if _OUR_LABELS.fullmatch(label)]
    if not ours:
        raise SignatureError(f"Signature-Input has no signature labelled {LABEL}")
    matching = None
    for label in ours:
        base = _base(incoming, inputs[label])
        given = _byte_sequence(signatures.get(label), f"the Signature labelled {label}")
        for key in keys:
            if hmac.compare_digest(hmac_base64(key, base), given):
                matching = inputs[label]
    if matching is None:
        raise SignatureError(
            "no signature matches: the secret differs, or the request does, or url is not the "
            "public URL that the producer posts to (its host and path are signed)"
        )
    created = _moment(matching.params, "created")
    check_fresh("created", created, now=now, tolerance_seconds=tolerance_seconds)
    if "expires" in matching.params and _moment(matching.params, "expires") < now:
        raise SignatureError("the signature has expired")
    _check_digest(incoming)
    return Verified(
        profile=Profile.RFC9421,
        producer_id=incoming.producer_id(),
        delivery_id=incoming.delivery_id("X-Idempotency-Key"),
        timestamp=created,
        attempt=incoming.attempt(),
        expires_at=incoming.expires_at(),
        replayed=incoming.replayed(),
        sequence=incoming.sequence(),
    )


def _label(number: int) -> str:
    return (LABEL, f"{LABEL}-previous")[number] if number < 2 else f"{LABEL}-previous-{number}"


def _dictionary(incoming: Incoming, name: str) -> dict[str, structured.Member]:
    try:
        return structured.dictionary(incoming.header(name))
    except ValueError:
        raise SignatureError(f"the {name} header is malformed") from None


def _base(incoming: Incoming, member: structured.Member) -> bytes:
    if not isinstance(member.content, tuple):
        raise SignatureError("Signature-Input must list the covered components")
    names = []
    for item in member.content:
        if item.value.kind != "string" or item.params:
            raise SignatureError("a covered component has a form that this receiver does not take")
        names.append(item.value.text)
    if len(set(names)) != len(names):
        raise SignatureError("a component is covered twice")
    needed = (*COVERED, SEQUENCE) if incoming.has(SEQUENCE) else COVERED
    for name in needed:
        if name not in names:
            raise SignatureError(f"the signature does not cover {name}")
    algorithm = member.params.get("alg", structured.Bare("string", "hmac-sha256"))
    if algorithm != structured.Bare("string", "hmac-sha256"):
        raise SignatureError("the signature's algorithm is not hmac-sha256")
    _moment(member.params, "created")
    lines = "".join(f'"{name}": {_component(incoming, name)}\n' for name in names)
    # The member's own spelling, so that two spellings of the same thing never share a signature.
    return f'{lines}"@signature-params": {member.raw}'.encode()


def _component(incoming: Incoming, name: str) -> str:
    if name in _DERIVED:
        return {
            "@method": incoming.method,
            "@authority": incoming.authority,
            "@path": incoming.raw_path,
            "@query": "?" + incoming.query,
        }[name]
    if not _FIELD_NAME.fullmatch(name):
        raise SignatureError("the signature covers a component that this receiver does not know")
    return incoming.header(name)


def _moment(params: dict[str, structured.Bare], name: str) -> datetime:
    found = params.get(name)
    if found is None or found.kind != "integer":
        raise SignatureError(f"the signature's {name} parameter must be an integer")
    try:
        return since_1970(int(found.text))
    except OverflowError:
        raise SignatureError(f"the signature's {name} parameter is out of range") from None


def _check_digest(incoming: Incoming) -> None:
    member = _dictionary(incoming, "Content-Digest").get("sha-256")
    given = _byte_sequence(member, "the sha-256 of Content-Digest")
    if not hmac.compare_digest(base64_text(sha256(incoming.body).digest()), given):
        raise SignatureError("the body is not the one that Content-Digest describes")


def _byte_sequence(member: structured.Member | None, what: str) -> str:
    if member is None:
        raise SignatureError(f"{what} is missing")
    if not isinstance(member.content, structured.Bare) or member.content.kind != "bytes":
        raise SignatureError(f"{what} is not a byte sequence")
    return member.content.text
