from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.core.addresses import allowed, odd_literal, read_address, refused

REFUSED = {
    "a cloud metadata address": [
        *("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"),
        "::ffff:169.254.169.254",
    ],
    "an address of this host itself": ["0.0.0.1", "0.1.2.3", "0.255.255.255"],
    "a private address": [
        *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
        *("fc00::1", "fd12:3456::1", "::ffff:10.0.0.1"),
    ],
    "a carrier's shared address": ["100.64.0.1", "100.127.255.255"],
    "a loopback address": ["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"],
    "a link-local address": ["169.254.0.1", "fe80::1", "febf::1", "fe80::1%eth0"],
    "a protocol assignment": ["192.0.0.8", "192.0.0.192", "2001:1::1", "2001:10::1", "2001:20::1"],
    "a documentation address": [
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),
    ],
    "an anycast address of AS112": ["192.31.196.1", "192.175.48.1"],
    "a multicast tunnel's address": ["192.52.193.1"],
    "a 6to4 relay's address": ["192.88.99.1"],
    "a benchmarking address": ["198.18.0.1", "198.19.255.255"],
    "a multicast address": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "a reserved address": ["240.0.0.1", "255.255.255.255"],
    "the unspecified address": ["::"],
    "an IPv4-compatible address": ["::127.0.0.1", "::8.8.8.8"],
    "an IPv4-translated address": ["::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8"],
    "a NAT64 address": ["64:ff9b::7f00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1"],
    "a discard address": ["100::1"],
    "a Teredo address": ["2001::1", "2001:0:7f00:1::1"],
    "a 6to4 address": ["2002:7f00:1::1", "2002:808:808::1"],
    "a site-local address": ["fec0::1", "feff::1"],
    "not a public address": ["1000::1", "4000::1", "5f00::1", "e000::1"],
}
PUBLIC = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.216.34", "100.63.255.255"),
    *("100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0"),
    *("172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0"),
    *("198.17.255.255", "198.20.0.0", "223.255.255.255", "::ffff:8.8.8.8"),
    *("2001:4860:4860::8888", "2606:4700:4700::1111", "2400::1", "2a00::1", "3ffe::1"),
]


@pytest.mark.parametrize(
    ("text", "reason"), [(text, why) for why, texts in REFUSED.items() for text in texts]
)
def test_an_address_that_is_not_public_is_refused_by_name(text: str, reason: str) -> None:
    """Every range that leads into a private place is refused, with its name."""
    assert refused(ip_address(text)) == reason


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_passes(text: str) -> None:
    """Public addresses pass, those right beside a refused range too."""
    assert refused(ip_address(text)) is None


@given(st.ip_addresses())
def test_nothing_passes_that_python_calls_private(ip: IPv4Address | IPv6Address) -> None:
    """The guard is never laxer than the standard library is."""
    assert refused(ip) is not None or ip.is_global


@given(st.ip_addresses(v=4), st.integers(0, 2**16 - 1))
def test_no_wrapping_of_an_ipv4_address_passes(ip: IPv4Address, tail: int) -> None:
    """An IPv4 address inside an IPv6 one is refused, or judged as itself where it is mapped."""
    inner = int(ip)
    assert refused(IPv6Address((0xFFFF << 32) | inner)) == refused(ip)
    for wrapped in (
        inner,
        (0xFFFF << 48) | inner,
        (0x64FF9B << 96) | inner,
        (0x2002 << 112) | (inner << 80) | tail,
        (0x2001 << 112) | (inner << 64) | (tail << 32) | (inner ^ 0xFFFFFFFF),
    ):
        assert refused(IPv6Address(wrapped)) is not None


@pytest.mark.parametrize(
    ("text", "networks", "passes"),
    [
        ("127.0.0.1", ["127.0.0.0/8"], True),
        ("::ffff:127.0.0.1", ["127.0.0.0/8"], True),
        ("::ffff:127.0.0.1", ["::ffff:0:0/96"], True),
        ("10.1.2.3", ["10.0.0.0/24"], False),
        ("10.0.0.9", ["192.168.0.0/16", "10.0.0.0/24"], True),
        ("169.254.169.254", ["169.254.169.254/32"], True),
        ("::1", ["127.0.0.0/8"], False),
        ("fd00::1", ["fd00::/8"], True),
        ("64:ff9b::8.8.8.8", ["64:ff9b::/96"], True),
    ],
)
def test_only_what_an_allowed_network_holds_is_let_through(
    text: str, networks: list[str], *, passes: bool
) -> None:
    """A refused address passes exactly if OUTBOUND_ALLOW_NETWORKS holds it."""
    allow = [ip_network(network) for network in networks]
    assert allowed(ip_address(text), allow) is passes
    assert (refused(ip_address(text), allow) is None) is passes


def test_an_empty_permission_permits_nothing() -> None:
    """Without OUTBOUND_ALLOW_NETWORKS no address counts as allowed, public ones neither."""
    assert not allowed(ip_address("8.8.8.8"), [])
    assert not allowed(ip_address("127.0.0.1"), [])


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "1.2.3.4.5"),
        *("127.0.0.01", "256.0.0.1", "1.2.3", "0", "0x", "0X7F.0.0.1", "example.7", "127.0.0.0x1"),
    ],
)
def test_a_number_in_disguise_is_odd(host: str) -> None:
    """A host that a C library may read as an address, but that is no dotted quad, is odd."""
    assert odd_literal(host)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "255.255.255.255", "example.com", "7.example", "x7", "0x7f.example"),
        *("a.0xg", "::1", "::ffff:127.0.0.1", "localhost", "example.com."),
    ],
)
def test_a_plain_address_and_a_name_are_not_odd(host: str) -> None:
    """Dotted quads, IPv6 addresses and names are what they seem to be."""
    assert not odd_literal(host)


def test_a_text_is_read_as_the_socket_reads_it() -> None:
    """An address with a zone is an address; a name is none."""
    assert read_address("127.0.0.1") == ip_address("127.0.0.1")
    assert read_address("fe80::1%lo") == ip_address("fe80::1%lo")
    assert read_address("example.com") is None
