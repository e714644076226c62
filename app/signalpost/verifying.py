"""The receiver's half of signing, for any web framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from signalpost.core import signing
from signalpost.core.signing import Profile, Verified

__all__ = ["verify"]


def verify(
    *,
    method: str,
    headers: Mapping[str, str],
    body: bytes,
    url: str,
    secrets: Sequence[str],
    profile: Profile = Profile.RFC9421,
    now: datetime | None = None,
    tolerance_seconds: float = 300,
) -> Verified:
    """Check that a request comes from its producer, unchanged and fresh.

    Verify before parsing, over the bytes exactly as they came. It says who sent the request, not
    that it is new: a retry is signed just as well, so act once for each `delivery_id`.

    Args:
        method: of the request, such as POST.
        headers: of the request; names in any case.
        body: the raw bytes.
        url: the public URL that the producer posts to: authority and path as the receiver's own
            configuration has them (proxies rewrite Host), with the query as received.
        secrets: those that are valid now; several while one is being replaced.
        profile: the one signature format that this receiver trusts; no other is looked at.
        now: the receiver's time (aware); its clock's, if not given.
        tolerance_seconds: how far the signature's time may be off.

    Returns:
        What the chosen profile's signature covers; the rest is None.

    Raises:
        errors.SignatureError: for everything that is wrong, malformed headers included.
    """
    return signing.verify(
        method=method,
        headers=headers,
        body=body,
        url=url,
        secrets=secrets,
        profile=profile,
        now=now or datetime.now(UTC),
        tolerance_seconds=tolerance_seconds,
    )
