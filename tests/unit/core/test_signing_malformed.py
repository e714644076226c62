"""Whatever arrives, a receiver gets a verified request or a SignatureError."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.core.httpsig import COVERED
from signalpost.core.signing import Profile, secret_bytes, verify
from signalpost.errors import SignatureError
from tests.unit.core.vectors import COVERED_HEADERS, Vector, by_name

ONE = by_name("one secret")
FULL = by_name("everything set")
PARAMS = ';created=1768487401;keyid="default/1"'
SIGNATURE = ONE.headers["Signature"].partition("=")[2]
INPUT = ONE.headers["Signature-Input"].partition("=")[2]

BAD = {
    "X-Producer-Id": ["", "a" * 65, "fx desk", "fx-désk", "fx-desk, fx-desk"],
    "X-Timestamp": ["", "1768487401", "2026-01-15T14:30:01", "2026-13-15T14:30:01Z", "now"],
    "X-Signature": ["", "x", "é", SIGNATURE, "a,b"],
    "webhook-id": ["", "a.b", "a b", "a" * 129, "é"],
    "webhook-timestamp": ["", "-1", "1.5", "1e9", " ", "\u0661", "9" * 12, "0x1", "2026-01-15"],
    "webhook-signature": [
        "",
        "v1",
        "v1,",
        ",x",
        "v1 x",
        "v2,abc",
        "v1,abc v1",
        "v1,abc  v1,abc",
        ONE.headers["webhook-signature"].replace("v1,", "v1a,"),
        ONE.headers["webhook-signature"] + " ,",
    ],
    "X-Idempotency-Key": ["", "a b", "\x00"],
    "X-Signalpost-Attempt": ["", "0", "01", "-1", "1.0", "one", "9" * 10],
    "X-Signalpost-Expires-At": ["", "Never", "2026-01-15", "2026-02-30T00:00:00Z"],
    "X-Signalpost-Replayed": ["", "True", "1", "no"],
    "X-Signalpost-Sequence": ["", "-1", "01", "1.5", "9" * 19],
    "Content-Digest": [
        "",
        "sha-256",
        "sha-256=abc",
        "sha-256=:abc",
        "sha-256=:!:",
        "sha-512=:YQ==:",
        "sha-256=(:YQ==:)",
        ONE.headers["Content-Digest"] + ", " + ONE.headers["Content-Digest"],
    ],
    "Signature": [
        "",
        "signalpost",
        "signalpost=abc",
        "signalpost=:abc:;",
        f"signalpost={SIGNATURE},",
        f"signalpost={SIGNATURE} x",
        f"signalpost={SIGNATURE}, signalpost={SIGNATURE}",
        f"other={SIGNATURE}",
        f"signalpost=({SIGNATURE})",
        f"Signalpost={SIGNATURE}",
        f"signalpost={SIGNATURE.replace(':', '')}",
        f"signalpost={SIGNATURE}, \x00",
        f"signalpost={SIGNATURE}, ä",
    ],
    "Signature-Input": [
        "",
        "signalpost",
        "signalpost=",
        "signalpost=()",
        "signalpost=(",
        'signalpost="@method"',
        f"signalpost={INPUT}, signalpost={INPUT}",
        f"signalpost={INPUT};",
        f"signalpost={INPUT}, signalpost-previous={INPUT}",
        f"signalpost={INPUT.replace('created', 'created=1;created')}",
        f"signalpost={INPUT.replace(' ', '')}",
        f"signalpost={INPUT.replace(' ', chr(9))}",
        f"signalpost={INPUT.replace('1768487401', '1768487401.5')}",
        f"signalpost={INPUT.replace('1768487401', '9' * 16)}",
        f"other={INPUT}",
        f"SIGNALPOST={INPUT}",
    ],
}


def resigned(
    vector: Vector, components: list[str], params: str = PARAMS, **headers: str
) -> dict[str, str]:
    """The vector's headers with others, soundly signed for these components and parameters."""
    sent = vector.outgoing
    changed = {
        **vector.headers,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    values = {name.lower(): value for name, value in changed.items()}
    values |= {"@method": "POST", "@authority": sent.authority, "@path": sent.raw_path}
    values |= {"@query": f"?{sent.query}"}
    listed = " ".join(name if '"' in name else f'"{name}"' for name in components)
    lines = [f'"{name}": {values.get(name, "")}' for name in components]
    base = "\n".join([*lines, f'"@signature-params": ({listed}){params}'])
    mac = hmac.new(secret_bytes(vector.secrets[0]), base.encode(), hashlib.sha256).digest()
    changed["Signature-Input"] = f"signalpost=({listed}){params}"
    changed["Signature"] = f"signalpost=:{base64.b64encode(mac).decode()}:"
    return changed


def test_a_request_that_the_tests_sign_themselves_is_accepted() -> None:
    """The helper of these tests signs soundly, so that what is refused below is so for its flaw."""
    verify(**ONE.request(headers=resigned(ONE, list(COVERED))))
    verify(**ONE.request(headers=resigned(ONE, [*reversed(COVERED), "user-agent"])))
    verify(**ONE.request(headers=resigned(ONE, list(COVERED), PARAMS + ';alg="hmac-sha256"')))
    verify(**ONE.request(headers=resigned(ONE, list(COVERED), PARAMS + ";expires=1768487402")))
    verify(**ONE.request(headers=resigned(ONE, list(COVERED), ";created=1768487401")))


@pytest.mark.parametrize("profile", Profile)
def test_a_missing_header_is_named(profile: Profile) -> None:
    """Without any one of the headers that the profile covers, the error names it."""
    names = [name for name in COVERED_HEADERS[profile] if name in ONE.headers]
    for missing in names:
        headers = {name: value for name, value in ONE.headers.items() if name != missing}
        with pytest.raises(SignatureError, match=f"the (?i:{missing}) header is missing"):
            verify(**ONE.request(profile=profile, headers=headers))


@pytest.mark.parametrize(
    ("profile", "name", "value"),
    [
        (profile, name, value)
        for profile in Profile
        for name in COVERED_HEADERS[profile]
        for value in BAD[name]
    ],
)
def test_a_malformed_header_is_refused(profile: Profile, name: str, value: str) -> None:
    """Every way to be malformed, in every header that the profile reads, is one class of error."""
    with pytest.raises(SignatureError):
        verify(**ONE.request(profile=profile, headers={**ONE.headers, name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in COVERED_HEADERS[Profile.RFC9421]
        if name.startswith("X-")
        for value in BAD[name]
        if value.isascii() and value.isprintable()
    ],
)
def test_a_malformed_fact_is_refused_though_soundly_signed(name: str, value: str) -> None:
    """A signature does not make a malformed fact acceptable."""
    components = [*COVERED, "x-signalpost-sequence"] if "Sequence" in name else list(COVERED)
    headers = resigned(ONE, components, **{name: value})
    headers.pop("webhook-id")
    with pytest.raises(SignatureError, match=f"the {name} header is malformed"):
        verify(**ONE.request(headers=headers))


@pytest.mark.parametrize(
    ("components", "params", "problem"),
    [
        *(
            ([name for name in COVERED if name != missing], PARAMS, f"does not cover {missing}")
            for missing in COVERED
        ),
        ([*COVERED, "@method"], PARAMS, "covered twice"),
        ([*COVERED, "@status"], PARAMS, "does not know"),
        ([*COVERED, "@query-param"], PARAMS, "does not know"),
        ([*COVERED, "X-Timestamp"], PARAMS, "does not know"),
        ([*COVERED, "@signature-params"], PARAMS, "does not know"),
        ([*COVERED, ""], PARAMS, "does not know"),
        ([*COVERED, "x-absent"], PARAMS, "x-absent header is missing"),
        ([*COVERED, '"user-agent";bs'], PARAMS, "a form that"),
        ([*COVERED, '"user-agent";req'], PARAMS, "a form that"),
        ([*COVERED[1:], '"@method";req'], PARAMS, "a form that"),
        (COVERED, "", "created parameter"),
        (COVERED, ';created="1768487401"', "created parameter"),
        (COVERED, ";created", "created parameter"),
        (COVERED, ";created=1768487401.0", "created parameter"),
        (COVERED, ";created=" + "9" * 15, "out of range"),
        (COVERED, ";created=-99999999999999", "out of range"),
        (COVERED, ";created=1768487101", "300 s are allowed"),
        (COVERED, PARAMS + ";expires=1768487400", "has expired"),
        (COVERED, PARAMS + ';expires="soon"', "expires parameter"),
        (COVERED, PARAMS + ';alg="hmac-sha512"', "not hmac-sha256"),
        (COVERED, PARAMS + ";alg=hmac-sha256", "not hmac-sha256"),
        (COVERED, PARAMS + ';alg=""', "not hmac-sha256"),
        (COVERED, PARAMS + ";created=1768487401", "Signature-Input header is malformed"),
        (COVERED, PARAMS + ";Created=1768487401", "Signature-Input header is malformed"),
    ],
)
def test_a_sound_signature_that_proves_less_is_refused(
    components: list[str], params: str, problem: str
) -> None:
    """A signature by the right key must still cover all of ours, know its age and its algorithm."""
    with pytest.raises(SignatureError, match=problem):
        verify(**ONE.request(headers=resigned(ONE, list(components), params)))


def test_a_sequence_must_be_covered_where_there_is_one() -> None:
    """The sequence can be neither added to a request nor taken out of it."""
    with pytest.raises(SignatureError, match="does not cover x-signalpost-sequence"):
        verify(**ONE.request(headers={**ONE.headers, "X-Signalpost-Sequence": "1"}))
    headers = {name: v for name, v in FULL.headers.items() if name != "X-Signalpost-Sequence"}
    with pytest.raises(SignatureError, match="x-signalpost-sequence header is missing"):
        verify(**FULL.request(headers=headers))


def test_the_body_must_be_the_one_that_the_digest_describes() -> None:
    """A sound signature over the digest of another body is refused."""
    digest = base64.b64encode(hashlib.sha256(b"another").digest()).decode()
    headers = resigned(ONE, list(COVERED), **{"Content-Digest": f"sha-256=:{digest}:"})
    with pytest.raises(SignatureError, match="the body is not the one"):
        verify(**ONE.request(headers=headers))
    verify(**ONE.request(headers=headers, body=b"another"))


def test_another_partys_label_neither_helps_nor_harms() -> None:
    """A gateway's own signature beside ours is ignored, whatever it covers or claims."""
    headers = {
        **ONE.headers,
        "Signature-Input": f'gw=("@status";req);alg="x", {ONE.headers["Signature-Input"]}, z=?1',
        "Signature": f"gw=:YQ==:, {ONE.headers['Signature']}, q=1.5",
    }
    verify(**ONE.request(headers=headers))


def test_a_flawed_second_label_of_ours_is_refused() -> None:
    """One sound label does not excuse another of ours that proves less."""
    headers = {
        **ONE.headers,
        "Signature-Input": f"{ONE.headers['Signature-Input']}, signalpost-previous=(){PARAMS}",
        "Signature": f"{ONE.headers['Signature']}, signalpost-previous=:YQ==:",
    }
    with pytest.raises(SignatureError, match="does not cover @method"):
        verify(**ONE.request(headers=headers))


@pytest.mark.parametrize("profile", Profile)
def test_what_is_not_text_or_bytes_is_refused(profile: Profile) -> None:
    """Header names or values in bytes, a body in text and an odd method are the same one class."""
    odd_name: dict[Any, Any] = {**ONE.headers, b"Host": "x"}
    odd_value: dict[Any, Any] = {**ONE.headers, "Host": b"x"}
    for change in (
        {"headers": odd_name},
        {"headers": odd_value},
        {"body": ONE.outgoing.body.decode()},
        {"method": "POST\nENDPOINT:/"},
        {"method": ""},
        {"method": None},
        {"url": ONE.url.encode()},
        {"headers": list(ONE.headers.items())},
        {"secrets": None},
        {"now": None},
        {"tolerance_seconds": "300"},
    ):
        with pytest.raises(SignatureError):
            verify(**ONE.request(profile=profile, **change))
    verify(**ONE.request(profile=profile, body=memoryview(bytearray(ONE.outgoing.body))))


ANY_TEXT = st.text() | st.text(st.sampled_from('()";=:,?@ \t\\abcZ019-_.*+/%'))
NAMES = st.sampled_from(sorted(ONE.headers)).flatmap(
    lambda name: st.sampled_from([name, name.upper(), name.lower()])
)
SPLICED = st.builds(
    lambda name, at, text: (name, ONE.headers[name][:at] + text + ONE.headers[name][at:]),
    st.sampled_from(sorted(ONE.headers)),
    st.integers(0, 300),
    ANY_TEXT,
)
HEADERS = st.dictionaries(NAMES | st.text(), ANY_TEXT, max_size=6).flatmap(
    lambda own: st.lists(SPLICED, max_size=3).map(
        lambda spliced: {**ONE.headers, **dict(spliced), **own}
    )
) | st.dictionaries(NAMES, ANY_TEXT)


@pytest.mark.parametrize("profile", Profile)
@given(headers=HEADERS, body=st.binary() | st.just(ONE.outgoing.body), url=st.text() | st.just(""))
def test_arbitrary_requests_raise_no_other_class(
    profile: Profile, headers: dict[str, str], body: bytes, url: str
) -> None:
    """Arbitrary headers, bodies and paths are verified or a SignatureError, nothing else."""
    for address in (ONE.url, f"{ONE.url}{url}", url):
        with contextlib.suppress(SignatureError):
            verify(**ONE.request(profile=profile, headers=headers, body=body, url=address))
