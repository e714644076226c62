"""What an endpoint may look like: its name, its URL, its policy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from signalpost.core import addresses
from signalpost.core.addresses import Network
from signalpost.core.backoff import (
    LONGEST_WAIT_SECONDS,
    SHORTEST_WAIT_SECONDS,
    Backoff,
    usable_waits,
)
from signalpost.core.extraheaders import check_extra_headers
from signalpost.core.identity import PRODUCER_ID
from signalpost.core.targets import read_target
from signalpost.errors import EndpointError
from signalpost.settings import Settings
from signalpost.settings.rules import http_url

__all__ = ["NewEndpoint", "check_endpoint", "check_policy", "check_url"]

_PATTERN = re.compile(r"[A-Z0-9._*?-]{1,20}")
_SIDE = re.compile(r"buy|sell")
_ACTION = re.compile(r"open|close|modify|cancel")
_MOST_WORDS = 100

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """A receiver as a person describes it; None: the setting's value. Times are in seconds."""

    name: str
    url: str
    secret: str = field(repr=False)
    timeout_seconds: float | None = None
    max_retries: int | None = None
    retry_delay_seconds: float | None = None
    retry_schedule_seconds: Sequence[float] | None = None
    """The wait before each retry; takes the place of the two above."""
    ttl_seconds: float | None = None
    on_unknown: Literal["retry", "stop"] = "retry"
    instruments: Sequence[str] | None = None
    """Patterns, of which one must fit; None, here and in the next ones: all."""
    sides: Sequence[str] | None = None
    actions: Sequence[str] | None = None
    producers: Sequence[str] | None = None
    min_confidence: Decimal | None = None
    ordered: bool = False
    on_dead: Literal["skip", "block"] = "skip"
    max_in_flight: int | None = None
    rate_per_second: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def check_endpoint(new: NewEndpoint, settings: Settings) -> None:
    """Raise EndpointError for a name, URL or policy that cannot be used with these settings."""
    if not _NAME.fullmatch(new.name):
        raise EndpointError(
            "an endpoint's name must be 1 to 64 letters, digits, dots, underscores and hyphens"
        )
    check_url(new.url, settings.outbound_allow_networks)
    check_policy(new, settings)


def check_url(url: str, allow_networks: Sequence[Network]) -> None:
    """Raise EndpointError for a URL that no delivery may go to.

    What a name resolves to is judged again at every connection; this tells a person early.
    """
    try:
        http_url(url)
    except ValueError as error:
        raise EndpointError(f"the URL {error}") from None
    target = read_target(url)
    if addresses.odd_literal(target.host):
        raise EndpointError(f"the URL's host {target.host} is no name and no complete address")
    address = addresses.read_address(target.host)
    if address is None and target.host in ("localhost", "localhost."):
        address = addresses.read_address("127.0.0.1")
    permitted = (
        bool(allow_networks) if address is None else addresses.allowed(address, allow_networks)
    )
    if permitted:
        return
    if reason := None if address is None else addresses.refused(address):
        raise EndpointError(
            f"the URL's host {target.host} is {reason}; OUTBOUND_ALLOW_NETWORKS must hold it, here "
            f"and for the workers, such as OUTBOUND_ALLOW_NETWORKS={address} in their .env"
        )
    if target.scheme == "http":
        raise EndpointError(
            "the URL must be https://; http:// is for addresses in OUTBOUND_ALLOW_NETWORKS, "
            "which must be set here and for the workers"
        )


def check_policy(new: NewEndpoint, settings: Settings) -> None:
    """Raise EndpointError for numbers out of range and for retries that outlive the signal."""
    limits: tuple[tuple[str, float | Decimal | None, float, float], ...] = (
        ("timeout", new.timeout_seconds, 5, 300),
        ("max retries", new.max_retries, 0, 1000),
        ("retry delay", new.retry_delay_seconds, SHORTEST_WAIT_SECONDS, LONGEST_WAIT_SECONDS),
        ("ttl", new.ttl_seconds, 0.001, 366 * 86400),
        ("max in flight", new.max_in_flight, 1, 10_000),
        ("rate", new.rate_per_second, 0.01, 100_000),
        ("min confidence", new.min_confidence, 0, 1),
    )
    for name, value, least, most in limits:
        if value is not None and not least <= value <= most:
            raise EndpointError(f"the {name} must be from {least:g} to {most:g}")
    if new.on_unknown not in ("retry", "stop"):
        raise EndpointError("on_unknown must be retry or stop")
    if new.on_dead not in ("skip", "block"):
        raise EndpointError("on_dead must be skip or block")
    _check_filter(new)
    check_extra_headers(new.headers)
    if read_target(new.url).authorization is not None and any(
        name.lower() == "authorization" for name in new.headers
    ):
        raise EndpointError("the URL's user and password make the Authorization header already")
    retries, schedule = _retries(new, settings)
    longest = schedule.total_seconds(retries)
    life = settings.signal_ttl_seconds if new.ttl_seconds is None else new.ttl_seconds
    if longest > life:
        raise EndpointError(
            f"{retries} retries can take {longest:.0f} s, longer than a signal's life of "
            f"{life:g} s here; lower the retries or their delay, or raise the ttl"
        )


def _retries(new: NewEndpoint, settings: Settings) -> tuple[int, Backoff]:
    waits = new.retry_schedule_seconds
    if waits is None:
        delay = new.retry_delay_seconds
        retries = settings.max_retries if new.max_retries is None else new.max_retries
        return retries, Backoff(settings.retry_delay_seconds if delay is None else delay)
    if new.max_retries is not None or new.retry_delay_seconds is not None:
        raise EndpointError(
            "a retry schedule says how many retries there are and when; "
            "give it, or max retries and the retry delay"
        )
    if len(waits) > _MOST_WORDS or not usable_waits(waits):
        raise EndpointError(
            f"the retry schedule must be 1 to {_MOST_WORDS} waits from {SHORTEST_WAIT_SECONDS:g} "
            f"to {LONGEST_WAIT_SECONDS:g} s"
        )
    return len(waits), Backoff(waits_seconds=tuple(waits))


def _check_filter(new: NewEndpoint) -> None:
    rules: tuple[tuple[str, Sequence[str] | None, re.Pattern[str], str], ...] = (
        ("instrument", new.instruments, _PATTERN, "1 to 20 of A-Z, 0-9, . _ - and the globs * ?"),
        ("side", new.sides, _SIDE, "buy or sell"),
        ("action", new.actions, _ACTION, "open, close, modify or cancel"),
        ("producer", new.producers, PRODUCER_ID, "1 to 64 letters, digits, underscores, hyphens"),
    )
    for name, given, pattern, rule in rules:
        if given is None:
            continue
        if not given:
            raise EndpointError(f"an endpoint that takes no {name} at all would get nothing")
        if len(given) > _MOST_WORDS:
            raise EndpointError(f"at most {_MOST_WORDS} of each filter can be named")
        if not all(pattern.fullmatch(word) for word in given):
            raise EndpointError(f"each {name} of a filter must be {rule}")
