"""Headers that an endpoint's owner asks for beside ours, such as a gateway's key. Pure.

None of them may stand for, hide or contradict what signalpost says itself: a receiver trusts the
signed headers, and a proxy the framing ones (RFC 9110, 9112).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from signalpost.errors import EndpointError

__all__ = ["MOST_HEADERS", "check_extra_headers", "with_extra"]

MOST_HEADERS = 20
_MOST_NAME = 64
_MOST_VALUE = 2048
_MOST_TOGETHER = 8192
"""Characters of all names and values; common servers refuse requests from 8 KiB on."""

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")
_OURS = frozenset(
    {
        *("x-signature", "x-idempotency-key", "x-producer-id", "x-timestamp", "user-agent", "host"),
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("accept-encoding", "date", "via", "max-forwards", "x-http-method-override"),
    }
)
_OUR_BEGINNINGS = ("signature", "webhook-", "content-", "proxy-", "x-signalpost-")


def _is_ours(name: str) -> bool:
    # Some servers take _ for - (CGI's rule), so that one name could stand for the other.
    plain = name.lower().replace("_", "-")
    return plain in _OURS or plain.startswith(_OUR_BEGINNINGS)


def check_extra_headers(headers: Mapping[str, str]) -> None:
    """Raise EndpointError for a header that cannot be sent, or that is ours. Never tells a value.

    At most 20 of them, a value of 1 to 2048 visible ASCII characters and inner spaces, 8 KiB
    together.
    """
    if len(headers) > MOST_HEADERS:
        raise EndpointError(f"at most {MOST_HEADERS} extra headers can be sent")
    if len({name.lower() for name in headers}) < len(headers):
        raise EndpointError("an extra header is named twice; a header's name has no case")
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or len(name) > _MOST_NAME:
            raise EndpointError(
                "an extra header's name must be 1 to 64 letters, digits and hyphens, "
                "such as X-Api-Key"
            )
        if _is_ours(name):
            raise EndpointError(f"{name} is one of the headers that signalpost sets itself")
        if not _VALUE.fullmatch(value) or len(value) > _MOST_VALUE:
            raise EndpointError(
                f"the value of {name} must be 1 to {_MOST_VALUE} ASCII characters on one line, "
                "without spaces at its ends"
            )
    if sum(len(name) + len(value) for name, value in headers.items()) > _MOST_TOGETHER:
        raise EndpointError(f"extra headers must be at most {_MOST_TOGETHER} characters together")


def with_extra(extra: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Our headers and the extra ones, of which none has a name of ours, in whatever case.

    Once more, and not only where they are set: a row that somebody wrote by hand forges nothing.
    """
    return {**{name: value for name, value in extra.items() if not _is_ours(name)}, **ours}
