"""The test signal: a signed request that every receiver can tell from a trade, and how.

It is a JSON object without one field of a signal (no instrument, no side, no price), so whatever
checks its input refuses it; its signed expiry is the year 1970, so whatever keeps to expiries
refuses it; and its body says what it is. docs/signing.md describes it for receivers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from signalpost.core.signing import Outgoing, sign
from signalpost.core.targets import wire_target

__all__ = ["TEST_ANSWER", "TEST_BODY", "is_test", "sign_test"]

TEST_BODY = (
    b'{"expires_at":"1970-01-01T00:00:00.000000Z",'
    b'"note":"a test of signalpost: this is no signal, there is nothing to trade",'
    b'"signalpost":"test"}'
)
"""The same bytes always, as a signal's: keys sorted, no spaces."""

TEST_ANSWER = "a test: the signature is right, and nothing was done"
"""The receiver kit's message, by which the sender knows that the signature was verified."""

_LONG_OVER = datetime(1970, 1, 1, tzinfo=UTC)


def is_test(body: bytes) -> bool:
    """Whether a verified body is the test's; ask only after verifying."""
    return body == TEST_BODY


def sign_test(
    url: str,
    *,
    keys: Sequence[bytes],
    key_ids: Sequence[str],
    producer_id: str,
    delivery_id: str,
    timestamp: datetime,
) -> dict[str, str]:
    """The headers of a test to `url`, signed as a delivery is; keys as `sign` takes them.

    Raises EndpointError for a URL that cannot be used.
    """
    authority, raw_path, query = wire_target(url)
    outgoing = Outgoing(
        method="POST",
        authority=authority,
        raw_path=raw_path,
        query=query,
        body=TEST_BODY,
        producer_id=producer_id,
        delivery_id=delivery_id,
        attempt=1,
        expires_at=_LONG_OVER,
        replayed=False,
        sequence=None,
        timestamp=timestamp,
    )
    return sign(outgoing, keys=keys, key_ids=key_ids)
