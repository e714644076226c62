"""The demo's search for private things finds them where they are, and nothing else."""

from __future__ import annotations

import base64

import pytest

from signalpost.demo.privacy import Finding, Needles
from signalpost.errors import SignalpostError

SECRET = "correct horse battery staple"
BODY = b'{"entry_price":83.2174,"payload":{"rsi":45.7792},"reason":"RSI at \\"the\\" level"}'


@pytest.fixture
def needles() -> Needles:
    return Needles({"secret": SECRET}, [BODY])


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("secret", f"using {SECRET} for it".encode()),
        ("price", b"refused at 83.2174, too low"),
        ("price", b"rsi=45.7792"),
        ("reason", b'said: RSI at "the" level'),
        ("reason", rb"said: RSI at \"the\" level"),
    ],
)
def test_each_private_thing_is_found(needles: Needles, kind: str, content: bytes) -> None:
    """A secret, a price, a number of the payload and a reason are found, in any spelling."""
    assert [finding.kind for finding in needles.search("log", content)] == [kind]


def test_what_base64_hides_is_found(needles: Needles) -> None:
    """A price inside a base64 run is found, as it would stand in a message in Redis."""
    hidden = b'{"body": "' + base64.b64encode(b'[["an id"], {"price": 83.2174}]') + b'"}'

    assert [finding.place for finding in needles.search("Redis", hidden)] == ["Redis (base64)"]


@pytest.mark.parametrize(
    "content", [b"at 12:00:83.217456", b"183.2174", b"83.21741", b"83.217", b"1.83.2174", b""]
)
def test_a_number_that_only_contains_a_price_is_no_finding(
    needles: Needles, content: bytes
) -> None:
    """Longer numbers, such as the seconds of a timestamp, are not taken for a price."""
    assert list(needles.search("log", content)) == []


def test_a_finding_says_where_and_not_what(needles: Needles) -> None:
    """A finding names the place and the byte, so that reporting it spills nothing."""
    assert list(needles.search("worker.log", b"at 83.2174")) == [Finding("price", "worker.log", 3)]


@pytest.mark.parametrize("bodies", [[], [b'{"entry_price":83.2,"reason":"x"}']])
def test_a_search_for_nothing_is_an_error(bodies: list[bytes]) -> None:
    """Without anything to look for the search would prove nothing, so it refuses."""
    with pytest.raises(SignalpostError, match="nothing to search for"):
        Needles({"secret": SECRET}, bodies)
