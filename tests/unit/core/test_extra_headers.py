from __future__ import annotations

import pytest

from signalpost.core.extraheaders import MOST_HEADERS, check_extra_headers, with_extra
from signalpost.errors import EndpointError

VALUE = "open-sesame-of-a-gateway"

OURS = (
    *("X-Signature", "x_signature", "X-Idempotency-Key", "X-Producer-Id", "X-TIMESTAMP", "Host"),
    *("webhook-id", "Webhook-Signature", "Signature", "signature-input", "Content-Type"),
    *("content-length", "Content-Digest", "Transfer-Encoding", "Connection", "User-Agent"),
    *("X-Signalpost-Sequence", "X-Signalpost-Replayed", "Proxy-Authorization", "Expect"),
)


@pytest.mark.parametrize("name", OURS)
def test_no_extra_header_has_a_name_of_ours(name: str) -> None:
    """What signalpost says itself can be neither set, nor said again by a row written by hand."""
    with pytest.raises(EndpointError, match="sets itself") as refused:
        check_extra_headers({name: VALUE})

    assert VALUE not in str(refused.value)
    assert with_extra({name: VALUE}, {"X-Signature": "ours"}) == {"X-Signature": "ours"}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Key": f"{VALUE}\r\nX-Signature: forged"},
        {"X-Key": f"{VALUE}\n"},
        {"X-Key": f"{VALUE}\x00"},
        {"X-Key": f"é{VALUE}"},
        {"X-Key": ""},
        {"X-Key": f" {VALUE}"},
        {"X-Key": "v" * 2049},
        {"X-Key\r\nX-Other": VALUE},
        {"X Key": VALUE},
        {"": VALUE},
        {"X" * 65: VALUE},
        {"X-Key": VALUE, "x-key": VALUE},
        {f"X-{number}": VALUE for number in range(MOST_HEADERS + 1)},
        {f"X-{number}": "v" * 2000 for number in range(5)},
    ],
)
def test_what_is_no_single_bounded_line_is_refused(headers: dict[str, str]) -> None:
    """Line breaks, odd characters, sizes past the bounds: one line, which tells no value."""
    with pytest.raises(EndpointError) as refused:
        check_extra_headers(headers)

    assert VALUE not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_usual_extra_headers_pass() -> None:
    """A gateway's key, a bearer's token and a name of one's own may be sent, beside ours."""
    wanted = {"X-Api-Key": VALUE, "Authorization": f"Bearer {VALUE}", "X-Desk": "fx 1"}

    check_extra_headers(wanted)
    assert with_extra(wanted, {"X-Signature": "ours"}) == {**wanted, "X-Signature": "ours"}
