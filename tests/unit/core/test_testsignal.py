from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from signalpost.core.signals import Signal
from signalpost.core.signing import Profile, verify
from signalpost.core.testsignal import TEST_BODY, is_test, sign_test
from signalpost.errors import SignalError

SECRET = "correct horse battery staple"
URL = "https://desk.example/signals?from=us"
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TRADING = {"instrument", "side", "entry_price", "stop_loss", "take_profit", "confidence", "action"}


def headers() -> dict[str, str]:
    return sign_test(
        URL,
        keys=[SECRET.encode()],
        key_ids=["desk:1"],
        producer_id="tests",
        delivery_id="6f1c2a9e-51f3-4c86-9d1e-2b7a40c1e0aa",
        timestamp=NOW,
    )


def test_a_test_holds_nothing_to_trade() -> None:
    """Its body has no field of a signal but an expiry in 1970, and cannot be read as a signal."""
    content = json.loads(TEST_BODY)

    assert set(content) == {"expires_at", "note", "signalpost"}
    assert not TRADING & set(content)
    assert content["expires_at"].startswith("1970-01-01T")
    assert content["signalpost"] == "test"
    with pytest.raises(SignalError):
        Signal.from_json(TEST_BODY)


def test_a_test_is_canonical_json() -> None:
    """It is written as a signal's body is: keys sorted, no spaces."""
    content = json.loads(TEST_BODY)

    assert json.dumps(content, sort_keys=True, separators=(",", ":")).encode() == TEST_BODY


@pytest.mark.parametrize("profile", list(Profile))
def test_a_test_is_signed_like_a_delivery(profile: Profile) -> None:
    """Whichever profile a receiver requires, a test proves that the secret is the right one."""
    verified = verify(
        method="POST",
        headers=headers(),
        body=TEST_BODY,
        url=URL,
        secrets=[SECRET],
        profile=profile,
        now=NOW,
    )

    if profile is Profile.RFC9421:
        assert verified.expires_at is not None
        assert verified.expires_at.year == 1970


def test_nothing_else_is_a_test() -> None:
    """Only the very bytes count: a signal can never be taken for a test and dropped."""
    assert is_test(TEST_BODY)
    for other in (b"", b"{}", TEST_BODY + b" ", TEST_BODY.replace(b'"test"', b'"TEST"')):
        assert not is_test(other)
