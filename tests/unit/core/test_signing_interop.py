"""Both directions against implementations that others wrote."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import http_message_signatures as hms
import http_sf
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from signalpost.core import structured
from signalpost.core.httpsig import COVERED, SEQUENCE
from signalpost.core.signing import (
    Outgoing,
    Profile,
    secret_bytes,
    sign,
    standard_webhooks_secret,
    verify,
)
from signalpost.errors import SignatureError
from tests.pages import python_block
from tests.unit.core.vectors import Vector, accepted, by_name

EACH = pytest.mark.parametrize("vector", accepted(), ids=lambda vector: vector.name)


@dataclass
class Message:
    """What http_message_signatures calls a request."""

    method: str
    url: str
    headers: dict[str, str]


class Keys(hms.HTTPSignatureKeyResolver):
    def __init__(self, **keys: bytes) -> None:
        self.keys = keys

    def resolve_public_key(self, key_id: str) -> bytes:
        return self.keys[key_id]

    resolve_private_key = resolve_public_key


class Verifier(hms.HTTPMessageVerifier):
    allow_label_only_selection = True


def fresh(vector: Vector) -> Outgoing:
    """The vector's request as if sent now, since both libraries read the clock themselves."""
    return replace(vector.outgoing, timestamp=datetime.now(UTC))


def signed(vector: Vector, outgoing: Outgoing) -> tuple[dict[str, str], list[bytes]]:
    keys = [secret_bytes(secret) for secret in vector.secrets]
    return sign(outgoing, keys=keys, key_ids=vector.key_ids), keys


@EACH
def test_standardwebhooks_accepts_what_we_sign(vector: Vector) -> None:
    """Each secret, in the form that the command line shows, verifies in the reference library."""
    headers, keys = signed(vector, fresh(vector))
    for key in keys:
        library = Webhook(standard_webhooks_secret(key))
        library.verify(vector.outgoing.body, headers)
        with pytest.raises(WebhookVerificationError):
            library.verify(vector.outgoing.body + b" ", headers)


@EACH
def test_we_accept_what_standardwebhooks_signs(vector: Vector) -> None:
    """A request signed by the reference library is verified by the Standard profile."""
    now = datetime.now(UTC)
    key = secret_bytes(vector.secrets[0])
    body = vector.outgoing.body
    headers = {
        "Webhook-Id": vector.outgoing.delivery_id,
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(standard_webhooks_secret(key)).sign(
            vector.outgoing.delivery_id, now, body.decode()
        ),
    }
    found = verify(**vector.request(headers=headers, profile=Profile.STANDARD, now=now))
    assert found.delivery_id == vector.outgoing.delivery_id
    assert found.timestamp == now.replace(microsecond=0)


@EACH
def test_http_message_signatures_accepts_what_we_sign(vector: Vector) -> None:
    """Each of our labels verifies in the RFC 9421 library, body included, and covers all facts."""
    headers, keys = signed(vector, fresh(vector))
    resolver = Keys(**dict(zip(vector.key_ids, keys, strict=True)))
    verifier = Verifier(signature_algorithm=hms.algorithms.HMAC_SHA256, key_resolver=resolver)
    message = Message("POST", vector.url, headers)
    covered = COVERED if vector.outgoing.sequence is None else (*COVERED, SEQUENCE)
    for number in range(len(keys)):
        label = ["signalpost", "signalpost-previous"][number]
        with pytest.warns(UserWarning, match="label"):
            (result,) = verifier.verify(
                message, expect_label=label, require_components=covered, body=vector.outgoing.body
            )
        assert result.parameters["keyid"] == vector.key_ids[number]
    message.headers = {**headers, "X-Signalpost-Attempt": "99"}
    with pytest.warns(UserWarning, match="label"), pytest.raises(hms.InvalidSignature):
        verifier.verify(message, expect_label="signalpost")


@EACH
def test_we_accept_what_http_message_signatures_signs(vector: Vector) -> None:
    """A request signed by the RFC 9421 library is verified, whatever else it covers or carries."""
    now = datetime.now(UTC)
    key = secret_bytes(vector.secrets[0])
    signer = hms.HTTPMessageSigner(
        signature_algorithm=hms.algorithms.HMAC_SHA256, key_resolver=Keys(other=key)
    )
    covered = [*COVERED, "content-type"]
    if vector.outgoing.sequence is not None:
        covered.append(SEQUENCE)
    random.Random(vector.name).shuffle(covered)
    dropped = {"Signature", "Signature-Input", "Content-Digest"}
    unsigned = {name: value for name, value in vector.headers.items() if name not in dropped}
    message = Message("POST", vector.url, unsigned)
    arguments: dict[str, Any] = {"key_id": "other", "body": vector.outgoing.body}
    signer.sign(message, label="gateway", created=now - timedelta(days=1), **arguments)
    signer.sign(
        message,
        label="signalpost",
        created=now,
        expires=now + timedelta(seconds=60),
        nonce='quoted " and \\',
        tag="any",
        append_if_signature_exists=True,
        covered_component_ids=covered,
        use_existing_digest=True,
        **arguments,
    )
    found = verify(**vector.request(headers=message.headers, now=now))
    assert found.delivery_id == vector.outgoing.delivery_id
    assert found.expires_at == vector.outgoing.expires_at
    assert found.timestamp == now.replace(microsecond=0)
    with pytest.raises(SignatureError, match="no signature matches"):
        verify(**vector.request(headers=message.headers, now=now, method="PUT"))


FRAGMENTS = st.sampled_from(
    [*'abz*-_.09"\\:;=,()?@ \t', "sig", "=1", "=?1", '="x"', "=:YQ==:", "=(", '("@a")', ";a", ", "]
)


@given(
    st.lists(FRAGMENTS, max_size=14).map("".join)
    | st.text(st.characters(max_codepoint=126, min_codepoint=32))
)
@example('a=( "b";c "d"  );e=-1.5,\tf, g=?0;h;i="j\\\\", k=:YQ==:, l=@1, m=t/*')
@example('a=("b""c")')
@example("a=1234567890123456")
@example("a=1.2345")
@example("a=1234567890123.1")
def test_our_reader_takes_no_field_that_the_rfc_refuses(text: str) -> None:
    """What our strict reader takes as a dictionary, http_sf takes with the same keys."""
    try:
        members = structured.dictionary(text)
    except ValueError:
        return
    parsed: Any = http_sf.parse(text.encode(), tltype="dictionary")
    assert list(parsed) == list(members)
    for key, (value, params) in parsed.items():
        ours = members[key]
        assert list(params) == list(ours.params)
        assert isinstance(value, list) == isinstance(ours.content, tuple)


@pytest.mark.parametrize("quote", [structured.quoted, http_sf.ser])
def test_a_quoted_text_reads_back(quote: Callable[[str], str]) -> None:
    """Quotes and backslashes in a key id are escaped as the RFC says."""
    text = 'a "b" \\ c'
    assert quote(text) == '"a \\"b\\" \\\\ c"'
    assert structured.dictionary(f"x;k={quote(text)}")["x"].params["k"].text == text


def pasted(block: str, **names: Any) -> dict[str, Any]:
    """What the block defines, executed with these names."""
    exec(block.replace("whsec_...", names.get("whsec", "")), names)  # noqa: S102  our own page
    return names


def test_the_receivers_page_verifies_with_each_library_what_we_send() -> None:
    """The blocks of docs/signing.md that use a library accept a fresh request, and no other."""
    vector = by_name("one secret")
    outgoing = fresh(vector)
    headers, (key,) = signed(vector, outgoing)
    body = outgoing.body

    block = python_block("docs/signing.md", "from signalpost import SignatureError")
    receive = pasted(block, MY_SECRET=vector.secrets[0])["receive"]
    assert receive("POST", headers, body, "/hooks/signals") == (200, outgoing.delivery_id)
    assert receive("POST", headers, body, "/hooks")[0] == 401

    block = python_block("docs/signing.md", "from standardwebhooks")
    webhook = pasted(block, whsec=standard_webhooks_secret(key))
    assert webhook["check"](body, headers)["instrument"] == "EURUSD"
    with pytest.raises(WebhookVerificationError):
        webhook["check"](body + b" ", headers)

    block = python_block("docs/signing.md", "from http_message_signatures")
    check = pasted(block, MY_KEY_BYTES=key)["check"]
    message = Message("POST", vector.url, headers)
    with pytest.warns(UserWarning, match="label"):
        check(message, body)
    with pytest.warns(UserWarning, match="label"), pytest.raises(hms.InvalidSignature):
        check(message, body + b" ")
