"""Signs a request in three formats at once, and verifies it in the one a receiver chose.

The rules, with worked examples, are in docs/signing.md; the vectors in tests/vectors hold them.
"""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256

from signalpost.core.httpsig import base64_text, hmac_base64, sign_http, verify_http
from signalpost.core.instants import rfc3339
from signalpost.core.wire import (
    NEVER,
    USER_AGENT,
    Incoming,
    Outgoing,
    Profile,
    Verified,
    check_fresh,
)
from signalpost.errors import SecretError, SignatureError

__all__ = [
    "Outgoing",
    "Profile",
    "Verified",
    "secret_bytes",
    "sign",
    "standard_webhooks_secret",
    "verify",
]

MIN_SECRET_BYTES = 16

_PREFIX = "whsec_"


def secret_bytes(secret: str) -> bytes:
    """The key of a secret: `whsec_` + base64 is decoded, anything else is its UTF-8 bytes.

    Raises errors.SecretError where the base64 is malformed or the key has less than 16 bytes.
    """
    if not isinstance(secret, str):
        raise SecretError("a secret must be a text")
    try:
        if secret.startswith(_PREFIX):
            key = binascii.a2b_base64(secret[len(_PREFIX) :], strict_mode=True)
        else:
            key = secret.encode()
    except ValueError:
        # Raised below, without this context: it may hold the secret.
        key = None
    if key is None:
        raise SecretError(
            "a secret must be UTF-8 text, and padded base64 where it follows whsec_; "
            "copy it anew, or take another"
        )
    if len(key) < MIN_SECRET_BYTES:
        raise SecretError(
            f"a secret must have at least {MIN_SECRET_BYTES} bytes; take a longer one"
        )
    return key


def standard_webhooks_secret(key: bytes) -> str:
    """The key in the form that Standard Webhooks libraries want: `whsec_` + base64."""
    return _PREFIX + base64_text(key)


def sign(outgoing: Outgoing, *, keys: Sequence[bytes], key_ids: Sequence[str]) -> dict[str, str]:
    """All headers of a request that is signed in the three formats, Host excepted.

    keys and key_ids go in pairs, the current one first. While several keys rotate, RFC 9421 and
    Standard Webhooks carry a signature by each, canonical one by the last, the oldest.
    ValueError where there is no key, or the instants carry no time zone.
    """
    if not keys:
        raise ValueError("signing needs at least one key")
    body_digest = base64_text(sha256(outgoing.body).digest())
    expires_at = outgoing.expires_at
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "X-Producer-Id": outgoing.producer_id,
        "X-Idempotency-Key": outgoing.delivery_id,
        "X-Signalpost-Attempt": str(outgoing.attempt),
        "X-Signalpost-Expires-At": NEVER if expires_at is None else rfc3339(expires_at),
        "X-Signalpost-Replayed": "true" if outgoing.replayed else "false",
    }
    if outgoing.sequence is not None:
        headers["X-Signalpost-Sequence"] = str(outgoing.sequence)
    headers["X-Timestamp"] = rfc3339(outgoing.timestamp)
    text = _canonical_text(
        outgoing.method,
        outgoing.raw_path or "/",
        headers["X-Timestamp"],
        outgoing.producer_id,
        body_digest,
    )
    headers["X-Signature"] = hmac_base64(keys[-1], text)
    seconds = str(int(outgoing.timestamp.timestamp()))
    message = _standard_message(outgoing.delivery_id, seconds, outgoing.body)
    headers["webhook-id"] = outgoing.delivery_id
    headers["webhook-timestamp"] = seconds
    headers["webhook-signature"] = " ".join(f"v1,{hmac_base64(key, message)}" for key in keys)
    sign_http(outgoing, headers, body_digest=body_digest, keys=keys, key_ids=key_ids)
    return headers


def verify(
    *,
    method: str,
    headers: Mapping[str, str],
    body: bytes,
    url: str,
    secrets: Sequence[str],
    profile: Profile = Profile.RFC9421,
    now: datetime,
    tolerance_seconds: float = 300,
) -> Verified:
    """What the request proves by the profile's own signature; it never falls back to another.

    headers are as received (names in any case), body the exact bytes, url the receiver's public URL
    of this endpoint with the path and query as received; never build it from Host. secrets are
    all those that are valid now; now is aware; the tolerance counts in both directions.
    Raises errors.SignatureError, and nothing else, for whatever is wrong.
    """
    aware: object = now
    if not isinstance(aware, datetime) or aware.utcoffset() is None:
        raise SignatureError("now must carry a time zone, such as datetime.now(UTC)")
    if not isinstance(tolerance_seconds, int | float):
        raise SignatureError("tolerance_seconds must be a number")
    if not isinstance(secrets, Iterable):
        raise SignatureError("secrets must be given as a list of texts")
    try:
        # A lone text is a sequence of texts too, and what it means is plain.
        keys = [secret_bytes(s) for s in ([secrets] if isinstance(secrets, str) else secrets)]
    except SecretError as error:
        raise SignatureError(f"this receiver's configuration is wrong: {error}") from None
    if not keys:
        raise SignatureError("this receiver has no secret to verify with")
    incoming = Incoming(method, headers, body, url)
    incoming.check_ids_agree()
    if profile == Profile.RFC9421:
        return verify_http(incoming, keys, now=now, tolerance_seconds=tolerance_seconds)
    if profile == Profile.STANDARD:
        verified = _verify_standard(incoming, keys)
        check_fresh(
            "webhook-timestamp", verified.timestamp, now=now, tolerance_seconds=tolerance_seconds
        )
    elif profile == Profile.CANONICAL:
        verified = _verify_canonical(incoming, keys)
        check_fresh("X-Timestamp", verified.timestamp, now=now, tolerance_seconds=tolerance_seconds)
    else:
        raise SignatureError("profile must be rfc9421, standard or canonical")
    return verified


def _verify_standard(incoming: Incoming, keys: Sequence[bytes]) -> Verified:
    delivery_id = incoming.delivery_id("webhook-id")
    timestamp = incoming.unix_seconds("webhook-timestamp")
    message = _standard_message(delivery_id, incoming.header("webhook-timestamp"), incoming.body)
    given = []
    for part in incoming.header("webhook-signature").split(" "):
        version, comma, signature = part.partition(",")
        if not (version and comma and signature):
            raise SignatureError("the webhook-signature header is malformed")
        if version == "v1":
            given.append(signature)
    _check_match(keys, message, given, "webhook-signature")
    return Verified(Profile.STANDARD, None, delivery_id, timestamp)


def _verify_canonical(incoming: Incoming, keys: Sequence[bytes]) -> Verified:
    producer_id = incoming.producer_id()
    timestamp = incoming.timestamp()
    text = _canonical_text(
        incoming.method,
        incoming.raw_path,
        incoming.header("X-Timestamp"),
        producer_id,
        base64_text(sha256(incoming.body).digest()),
    )
    _check_match(keys, text, [incoming.header("X-Signature")], "X-Signature")
    return Verified(Profile.CANONICAL, producer_id, None, timestamp)


def _check_match(keys: Sequence[bytes], message: bytes, given: Sequence[str], name: str) -> None:
    # Every key and every signature is compared, in constant time, and as text: the last character
    # of base64 has spare bits, and one signature should have one spelling.
    matches = [
        hmac.compare_digest(hmac_base64(key, message), signature)
        for key in keys
        for signature in given
    ]
    if not any(matches):
        raise SignatureError(f"{name} does not match: the secret differs, or the request does")


def _canonical_text(
    method: str, raw_path: str, timestamp: str, producer_id: str, body_digest: str
) -> bytes:
    return (
        f"METHOD:{method}\nENDPOINT:{raw_path}\nTIMESTAMP:{timestamp}\n"
        f"PRODUCER_ID:{producer_id}\nBODY_SHA256:{body_digest}"
    ).encode()


def _standard_message(delivery_id: str, seconds: str, body: bytes) -> bytes:
    return f"{delivery_id}.{seconds}.".encode() + body
