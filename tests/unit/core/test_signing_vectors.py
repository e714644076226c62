"""The language-neutral vectors, both ways, and every single-byte change to them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from signalpost.core.signing import Profile, secret_bytes, sign, verify
from signalpost.errors import SignatureError
from tests.pages import python_block
from tests.unit.core.vectors import (
    COVERED_HEADERS,
    FILE,
    Vector,
    accepted,
    by_name,
    refused,
    secret,
)

EACH = pytest.mark.parametrize("vector", accepted(), ids=lambda vector: vector.name)
EACH_ALONE = pytest.mark.parametrize(
    "vector", [v for v in accepted() if len(v.secrets) == 1], ids=lambda vector: vector.name
)
PROFILES = pytest.mark.parametrize("profile", Profile)


@EACH
def test_signing_gives_exactly_these_headers(vector: Vector) -> None:
    """No header more, none less, none other than the vector says."""
    keys = [secret_bytes(secret) for secret in vector.secrets]
    assert sign(vector.outgoing, keys=keys, key_ids=vector.key_ids) == vector.headers


@EACH
def test_the_vectors_follow_from_their_texts(vector: Vector) -> None:
    """Each signature is the HMAC of the text that stands beside it, so the file explains itself."""

    def mac(key: bytes, text: str) -> str:
        return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()

    keys = [secret_bytes(secret) for secret in vector.secrets]
    headers = vector.headers
    assert headers["X-Signature"] == mac(keys[-1], vector.canonical_text)
    expected = " ".join(f"v1,{mac(key, vector.standard_text)}" for key in keys)
    assert headers["webhook-signature"] == expected
    for key, base in zip(keys, vector.rfc9421_bases, strict=True):
        assert f":{mac(key, base)}:" in headers["Signature"]


@EACH
@PROFILES
def test_verifying_accepts_the_vectors(vector: Vector, profile: Profile) -> None:
    """Each profile accepts, with each secret that signed, and tells only what it covers."""
    sent = vector.outgoing
    secrets = vector.secrets[-1:] if profile is Profile.CANONICAL else vector.secrets
    for one in secrets:
        found = verify(**vector.request(profile=profile, secrets=[one]))
        assert found.profile is profile
        covers_producer = profile is not Profile.STANDARD
        covers_delivery = profile is not Profile.CANONICAL
        covers_facts = profile is Profile.RFC9421
        assert found.producer_id == (sent.producer_id if covers_producer else None)
        assert found.delivery_id == (sent.delivery_id if covers_delivery else None)
        assert found.attempt == (sent.attempt if covers_facts else None)
        assert found.expires_at == (sent.expires_at if covers_facts else None)
        assert found.replayed == (sent.replayed if covers_facts else None)
        assert found.sequence == (sent.sequence if covers_facts else None)
        whole = sent.timestamp.replace(microsecond=0)
        assert found.timestamp == (sent.timestamp if profile is Profile.CANONICAL else whole)


@pytest.mark.parametrize(
    ("profile", "case"),
    [(Profile(profile), case) for case in refused() for profile in case["profiles"]],
    ids=lambda value: value["about"] if isinstance(value, dict) else value.value,
)
def test_verifying_refuses_the_vectors_that_differ(profile: Profile, case: dict[str, Any]) -> None:
    """After the one change that the vector describes, the profile refuses."""
    vector, change = by_name(case["vector"]), case["change"]
    removed = change.get("remove", [])
    changes: dict[str, Any] = {
        "headers": {
            name: value
            for name, value in {**vector.headers, **change.get("set", {})}.items()
            if name not in removed
        }
    }
    if "body" in change:
        changes["body"] = change["body"].encode()
    if "url" in change:
        changes["url"] = change["url"]
    if "now" in change:
        changes["now"] = datetime.fromisoformat(change["now"])
    if "secret" in change:
        changes["secrets"] = [secret(change["secret"])]
    with pytest.raises(SignatureError):
        verify(**vector.request(profile=profile, **changes))


def one_byte_changes(text: str) -> Iterator[str]:
    for at, character in enumerate(text):
        for bit in (1, 2, 4, 32):
            yield text[:at] + chr(ord(character) ^ bit) + text[at + 1 :]
    for at in range(len(text)):
        yield text[:at] + text[at + 1 :]


@EACH_ALONE
@PROFILES
def test_any_changed_byte_of_a_covered_header_is_refused(vector: Vector, profile: Profile) -> None:
    """Flip a bit of, or drop, any byte of any header that the profile covers: refused."""
    for name in COVERED_HEADERS[profile]:
        for value in one_byte_changes(vector.headers.get(name, "")):
            with pytest.raises(SignatureError):
                verify(**vector.request(profile=profile, headers={**vector.headers, name: value}))


@EACH_ALONE
@PROFILES
def test_any_changed_byte_of_the_body_is_refused(vector: Vector, profile: Profile) -> None:
    """Flip a bit of any byte of the body, drop it or add one: refused in every profile."""
    body = vector.outgoing.body
    changed = [body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :] for at in range(len(body))]
    changed += [body[:-1], body + b"\n", b" " + body, b""]
    for other in changed:
        with pytest.raises(SignatureError):
            verify(**vector.request(profile=profile, body=other))


@EACH_ALONE
@pytest.mark.parametrize("profile", [Profile.RFC9421, Profile.CANONICAL])
def test_any_changed_byte_of_the_path_is_refused(vector: Vector, profile: Profile) -> None:
    """Flip a bit of, or drop, any byte of the path, the query unchanged: refused."""
    target, _, query = vector.url.partition("?")
    start = len("https://") + len(vector.outgoing.authority)
    for path in one_byte_changes(target[start:]):
        with pytest.raises(SignatureError):
            verify(**vector.request(profile=profile, url=f"{target[:start]}{path}?{query}"))


def test_the_notes_work_the_canonical_vector_out() -> None:
    """The vectors' README shows each step of the first vector with the file's own values."""
    notes = (FILE.parent / "README.md").read_text(encoding="utf-8")
    vector = by_name("one secret")
    body = vector.outgoing.body
    indented = "\n".join(f"   {line}" for line in vector.canonical_text.split("\n"))
    assert f"{len(body)} bytes" in notes
    assert body.decode() in notes
    assert hashlib.sha256(body).hexdigest() in notes
    assert indented in notes
    assert vector.headers["X-Signature"] in notes


def test_the_receivers_page_verifies_by_hand_what_we_send() -> None:
    """The function that docs/signing.md gives to paste accepts the vectors and refuses changes."""
    pasted: dict[str, Any] = {}
    exec(python_block("docs/signing.md", "import base64"), pasted)  # noqa: S102  our own page
    for vector in accepted():
        sent = vector.outgoing
        key = secret_bytes(vector.secrets[-1])
        well = (key, "POST", sent.raw_path, vector.headers, sent.body, sent.timestamp)
        assert pasted["is_genuine"](*well)
        assert not pasted["is_genuine"](*well[:4], sent.body + b" ", sent.timestamp)
        assert not pasted["is_genuine"](*well[:5], sent.timestamp + timedelta(seconds=301))


def test_the_receivers_page_shows_the_rfc_9421_base_of_the_first_vector() -> None:
    """The signature base in docs/signing.md is the vector's, but for its last line's dots."""
    page = (FILE.parents[2] / "docs" / "signing.md").read_text(encoding="utf-8")
    lines, _, _ = by_name("one secret").rfc9421_bases[0].rpartition('"@signature-params": ')
    assert f'{lines}"@signature-params": ...\n' in page
