"""Secrets, the freshness window, rotation, and what a receiver's URL means."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from signalpost.core.signing import (
    Profile,
    secret_bytes,
    sign,
    standard_webhooks_secret,
    verify,
)
from signalpost.errors import SecretError, SignatureError
from tests.unit.core.vectors import by_name

ONE = by_name("one secret")
PROFILES = pytest.mark.parametrize("profile", Profile)
WORDS = b"correct horse battery staple"


def whsec(text: bytes) -> str:
    return "whsec_" + base64.b64encode(text).decode()


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("correct horse battery staple", WORDS),
        (whsec(WORDS), WORDS),
        (whsec(bytes(range(16))), bytes(range(16))),
        ("é" * 8, "é".encode() * 8),
        ("WHSEC_sixteen_bytes", b"WHSEC_sixteen_bytes"),
        (" spaces stay as they are ", b" spaces stay as they are "),
    ],
)
def test_a_secret_is_its_bytes_or_what_its_base64_says(secret: str, key: bytes) -> None:
    """Only the prefix whsec_ makes a secret base64; everything else is taken literally."""
    assert secret_bytes(secret) == key
    assert secret_bytes(standard_webhooks_secret(key)) == key


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "fifteen bytes..",
        "é" * 7,
        whsec(b"fifteen bytes.."),
        "whsec_",
        "whsec_not base64 at all",
        whsec(WORDS).rstrip("="),
        whsec(WORDS) + "\n",
        whsec(WORDS) + "=",
        "whsec_=" + whsec(WORDS)[6:],
        whsec(WORDS).replace("j", "-"),
        "whsec_" + "é" * 20,
        "half a pair \ud800 of surrogates",
        None,
    ],
)
def test_a_short_or_malformed_secret_is_an_error_that_does_not_show_it(secret: str) -> None:
    """Whatever is wrong with a secret, the error says so without the secret, in any context."""
    with pytest.raises(SecretError) as caught:
        secret_bytes(secret)
    assert caught.value.__context__ is None
    assert not secret or secret not in str(caught.value)


@PROFILES
@pytest.mark.parametrize("seconds", [-300, -1, 0, 299, 300])
def test_within_the_window_a_request_is_fresh(profile: Profile, seconds: int) -> None:
    """Up to five minutes in both directions are accepted, the fifth included."""
    whole = replace(ONE.outgoing, timestamp=ONE.outgoing.timestamp.replace(microsecond=0))
    headers = sign(whole, keys=[WORDS], key_ids=["k"])
    now = whole.timestamp + timedelta(seconds=seconds)
    verify(**ONE.request(profile=profile, headers=headers, now=now))


@PROFILES
@pytest.mark.parametrize(
    ("seconds", "tolerance", "text"),
    [
        (301, 300, "behind this clock, 300 s are allowed"),
        (-302, 300, "ahead of this clock, 300 s are allowed"),
        (12, 10, "behind this clock, 10 s are allowed"),
        (12, float("nan"), "nan s are allowed"),
        (12, -1, "-1 s are allowed"),
    ],
)
def test_outside_the_window_a_request_is_refused(
    profile: Profile, seconds: int, tolerance: float, text: str
) -> None:
    """Too old and too new are refused, and the error tells a wrong clock from a wrong secret."""
    now = ONE.outgoing.timestamp + timedelta(seconds=seconds)
    with pytest.raises(SignatureError, match=text):
        verify(**ONE.request(profile=profile, now=now, tolerance_seconds=tolerance))


@PROFILES
def test_any_zone_of_now_means_the_same_instant(profile: Profile) -> None:
    """A receiver may pass local time with its zone, but never a time without one."""
    local = ONE.outgoing.timestamp.astimezone(timezone(timedelta(hours=-9)))
    verify(**ONE.request(profile=profile, now=local))
    with pytest.raises(SignatureError, match="now must carry a time zone"):
        verify(**ONE.request(profile=profile, now=local.replace(tzinfo=None)))


@PROFILES
def test_any_of_several_secrets_may_match(profile: Profile) -> None:
    """A receiver that knows old and new secrets verifies by either; without the right one, none."""
    others = ["another horse and staple", whsec(bytes(32))]
    verify(**ONE.request(profile=profile, secrets=[*others, *ONE.secrets]))
    verify(**ONE.request(profile=profile, secrets=ONE.secrets[0]))
    with pytest.raises(SignatureError, match="match"):
        verify(**ONE.request(profile=profile, secrets=others))


@PROFILES
@pytest.mark.parametrize("secrets", [[], ["short"], [*ONE.secrets, "whsec_?"]])
def test_a_receiver_without_usable_secrets_refuses(profile: Profile, secrets: list[str]) -> None:
    """No secret, or one that cannot be used, is an error of the one class, without its value."""
    with pytest.raises(SignatureError, match="this receiver") as caught:
        verify(**ONE.request(profile=profile, secrets=secrets))
    assert not [secret for secret in secrets if secret in str(caught.value)]


def test_while_rotating_each_side_may_change_first() -> None:
    """Receivers with the new, the old or both secrets verify; canonical keeps to the old one."""
    vector = by_name("rotating")
    new, old = vector.secrets
    for profile in (Profile.RFC9421, Profile.STANDARD):
        for secrets in ([new], [old], [new, old]):
            verify(**vector.request(profile=profile, secrets=secrets))
    verify(**vector.request(profile=Profile.CANONICAL, secrets=[old]))
    with pytest.raises(SignatureError):
        verify(**vector.request(profile=Profile.CANONICAL, secrets=[new]))


def test_a_rotation_within_a_rotation_signs_with_all_keys() -> None:
    """Of three keys each verifies alone, under a label of its own."""
    secrets = [f"the secret number {number}" for number in range(3)]
    keys = [secret_bytes(secret) for secret in secrets]
    headers = sign(ONE.outgoing, keys=keys, key_ids=["c", "b", "a"])
    for secret in secrets:
        for profile in (Profile.RFC9421, Profile.STANDARD):
            verify(**ONE.request(profile=profile, headers=headers, secrets=[secret]))
    for label in ("signalpost=", "signalpost-previous=", "signalpost-previous-2="):
        assert headers["Signature"].count(label) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://receiver.example/hooks/signals",
        "HTTPS://Receiver.Example:443/hooks/signals",
        "http://receiver.example:80/hooks/signals",
        "https://receiver.example:/hooks/signals",
        "https://receiver.example/hooks/signals?",
    ],
)
def test_spellings_of_one_url_verify_alike(url: str) -> None:
    """Case of the host, a default port and an empty query make no difference (RFC 9421, 2.2)."""
    verify(**ONE.request(url=url))


@PROFILES
@pytest.mark.parametrize(
    "url",
    [
        "",
        "/hooks/signals",
        "ftp://receiver.example/hooks/signals",
        "https:///hooks/signals",
        "https://user@receiver.example/hooks/signals",
        "https://receiver.example/hooks/signals#top",
        "https://receiver.example/hooks/signals\n",
        "https://receiver.example/hooks/ signals",
        "https://empfänger.example/hooks/signals",
    ],
)
def test_a_url_that_is_none_is_refused(profile: Profile, url: str) -> None:
    """A receiver configured with something else than a public URL is told so."""
    with pytest.raises(SignatureError, match="url must be"):
        verify(**ONE.request(profile=profile, url=url))


def test_the_case_of_the_host_does_not_matter_to_the_signature() -> None:
    """A Host header in capitals is signed in lower case (RFC 9421, 2.2.3)."""
    outgoing = replace(ONE.outgoing, authority="RECEIVER.Example")
    assert sign(outgoing, keys=[WORDS], key_ids=ONE.key_ids) == ONE.headers


def test_ipv6_hosts_and_ports_are_kept() -> None:
    """An IPv6 literal with a port is signed and verified as it stands in the Host header."""
    outgoing = replace(ONE.outgoing, authority="[::1]:8443")
    headers = sign(outgoing, keys=[WORDS], key_ids=["k"])
    verify(**ONE.request(headers=headers, url="https://[::1]:8443/hooks/signals"))
    for url in ("https://[::1]/hooks/signals", "https://[::1]:443/hooks/signals"):
        with pytest.raises(SignatureError, match="no signature matches"):
            verify(**ONE.request(headers=headers, url=url))


@PROFILES
@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_header_names_have_no_case(profile: Profile, change: Callable[[str], str]) -> None:
    """Whatever a framework makes of the names' case, the request verifies."""
    headers = {change(name): f" {value}\t" for name, value in ONE.headers.items()}
    verify(**ONE.request(profile=profile, headers=headers))


class Repeating(Mapping[str, str]):
    """A multidict, as some frameworks pass: its items() may repeat a name."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs

    def __getitem__(self, name: str) -> str:
        return dict(self.pairs)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(self.pairs)

    def items(self) -> list[tuple[str, str]]:  # type: ignore[override]
        return self.pairs


@PROFILES
def test_a_doubled_header_is_refused_even_if_equal(profile: Profile) -> None:
    """A name in two spellings, or twice from a multidict, is refused where the profile reads it."""
    needed = {
        Profile.RFC9421: ["Signature", "Signature-Input", "Content-Digest", "X-Signalpost-Attempt"],
        Profile.STANDARD: ["webhook-signature", "webhook-timestamp"],
        Profile.CANONICAL: ["X-Signature", "X-Timestamp", "X-Producer-Id"],
    }
    for name in [*needed[profile], "webhook-id", "X-Idempotency-Key"]:
        for spelling in (name, name.swapcase()):
            pairs = [*ONE.headers.items(), (spelling, ONE.headers[name])]
            with pytest.raises(SignatureError, match="more than once"):
                verify(**ONE.request(profile=profile, headers=Repeating(pairs)))
    others = [*ONE.headers.items(), ("Cookie", "a"), ("Cookie", "b")]
    verify(**ONE.request(profile=profile, headers=Repeating(others)))


def test_an_unknown_profile_is_refused() -> None:
    """A profile that does not exist verifies nothing; one given as plain text works."""
    verify(**ONE.request(profile="standard"))
    with pytest.raises(SignatureError, match="profile must be"):
        verify(**ONE.request(profile="all"))


def test_signing_needs_a_key_and_instants_with_zone() -> None:
    """Signing without key, with a key id too few or with a naive time is a programming error."""
    naive = replace(ONE.outgoing, timestamp=datetime(2026, 1, 15))  # noqa: DTZ001
    for outgoing, keys, key_ids in (
        (ONE.outgoing, [], []),
        (ONE.outgoing, [WORDS], []),
        (ONE.outgoing, [WORDS], ["line\nbreak"]),
        (naive, [WORDS], ["k"]),
    ):
        with pytest.raises(ValueError, match=r"key|zone|zip|ASCII"):
            sign(outgoing, keys=keys, key_ids=key_ids)


def test_signing_turns_any_zone_into_utc() -> None:
    """The same instant in another zone gives the very same headers."""
    local = ONE.outgoing.timestamp.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert local.tzinfo is not UTC
    moved = replace(ONE.outgoing, timestamp=local)
    assert sign(moved, keys=[WORDS], key_ids=ONE.key_ids) == ONE.headers
