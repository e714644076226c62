"""Which addresses a delivery may be sent to.

A receiver's URL is somebody else's choice, and so is what its name resolves to. Without this guard
an endpoint could make the worker POST into its own machine, its private network or a cloud's
metadata service (server-side request forgery). Pure: the transport asks for every address at the
moment it connects.

`ipaddress.is_global` alone is not enough: Python 3.11 calls `::127.0.0.1`, NAT64, 6to4, site-local
and IPv4-translated addresses global, each of which a router may carry to a private IPv4 address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The special-purpose registries of IANA (RFC 6890 and its updates), the narrower range first where
# one lies in another. 168.63.129.16 is Azure's metadata service, on an otherwise public address.
_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("169.254.169.254/32", "a cloud metadata address"),
        ("168.63.129.16/32", "a cloud metadata address"),
        ("100.100.100.200/32", "a cloud metadata address"),
        ("fd00:ec2::254/128", "a cloud metadata address"),
        ("0.0.0.0/8", "an address of this host itself"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier's shared address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a protocol assignment"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.31.196.0/24", "an anycast address of AS112"),
        ("192.52.193.0/24", "a multicast tunnel's address"),
        ("192.88.99.0/24", "a 6to4 relay's address"),
        ("192.168.0.0/16", "a private address"),
        ("192.175.48.0/24", "an anycast address of AS112"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
        ("::/128", "the unspecified address"),
        ("::1/128", "a loopback address"),
        ("::/96", "an IPv4-compatible address"),
        ("::ffff:0:0:0/96", "an IPv4-translated address"),
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("100::/64", "a discard address"),
        ("2001::/32", "a Teredo address"),
        ("2001::/23", "a protocol assignment"),
        ("2001:db8::/32", "a documentation address"),
        ("2002::/16", "a 6to4 address"),
        ("3fff::/20", "a documentation address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a site-local address"),
        ("ff00::/8", "a multicast address"),
    )
)
# All global unicast addresses lie here (RFC 4291, section 2.4, as assigned by IANA).
_GLOBAL_UNICAST = IPv6Network("2000::/3")

_QUAD = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.ASCII | re.IGNORECASE)


def refused(ip: Address, allow_networks: Sequence[Network] = ()) -> str | None:
    """Say why nothing may be sent to `ip`, or None if it may.

    Args:
        ip: the address about to be connected to; an IPv4-mapped one is judged as the IPv4 address
            that it reaches.
        allow_networks: OUTBOUND_ALLOW_NETWORKS; what lies in one of them is never refused.

    Returns:
        A short reason that follows "is", such as "a loopback address".
    """
    address = _unwrapped(ip)
    if allowed(ip, allow_networks):
        return None
    for network, reason in _REFUSED:
        if address in network:
            return reason
    # The standard library may know of ranges that were set aside after the list above was written.
    if not address.is_global or (address.version == 6 and address not in _GLOBAL_UNICAST):
        return "not a public address"
    return None


def allowed(ip: Address, allow_networks: Sequence[Network]) -> bool:
    """Whether OUTBOUND_ALLOW_NETWORKS names `ip`, which also permits plain `http://` to it."""
    address = _unwrapped(ip)
    return any(address in network or ip in network for network in allow_networks)


def read_address(text: str) -> Address | None:
    """The address that a socket would connect to, from its text (with or without a zone)."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def odd_literal(host: str) -> bool:
    """Whether `host` is a number that a resolver may take for an address, but no dotted quad.

    `2130706433`, `0x7f.1` and `0177.0.0.1` all mean 127.0.0.1 to the C library; the URL standard
    (WHATWG, section 3.5, "ends in a number") reads such hosts as IPv4 addresses, others as names.
    """
    if ":" in host:
        return False
    last = host.removesuffix(".").rpartition(".")[2]
    return _NUMBER.fullmatch(last) is not None and _QUAD.fullmatch(host) is None


def _unwrapped(ip: Address) -> Address:
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return ip if mapped is None else mapped
