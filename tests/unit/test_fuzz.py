"""Whatever comes in at any door, it is understood or refused by an error of our own.

CONTRIBUTING.md says how to search for longer.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.cli.lines import GoodLine, checked, chunks
from signalpost.core.outcomes import retry_after_seconds
from signalpost.core.signals import Signal
from signalpost.core.signing import Profile, verify
from signalpost.direct.answers import read_answer
from signalpost.errors import SettingError, SignalError, SignatureError
from signalpost.receiver import Receiver
from signalpost.settings import Settings, load_settings, read_dotenv
from tests.desks import NOW, SECRET, URL, SqliteDesk, body_of, outgoing, signed

ANYTHING: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.datetimes()
    | st.lists(st.text(max_size=5) | st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=5) | st.binary(max_size=5), st.integers(), max_size=3)
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
FIELDS = sorted(Signal.model_fields)
GOOD = body_of()
FACTS = outgoing(body=GOOD)
HEADERS = signed(FACTS)
SENDER = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
# Digits, signs and words of which dates, numbers and headers are made.
WORDS = (
    *"019 ,:+-.\x00",
    "Mon",
    "31",
    "9999",
    "9" * 400,
    "Feb",
    "Dec",
    "GMT",
    "-0000",
    "1e9",
    "nan",
)
# Each is refused, or read, by a rule of its own, which chance alone would not meet.
ODD_DOCUMENTS = st.sampled_from(
    [
        b"[" * 4000,
        b"9" * 5000,
        b'{"confidence":1e99999999999999999999}',
        b'{"side":"buy","side":"sell"}',
        b'{"confidence":NaN}',
        b'{"reason":"\\ud800"}',
    ]
)
HOSTILE_WORDS = st.lists(st.sampled_from([*WORDS, "inf", "é", "\u0661"]), max_size=12).map("".join)


def spliced(whole: bytes) -> st.SearchStrategy[bytes]:
    """The bytes with some of them replaced by any others."""
    place = st.integers(0, len(whole))
    return st.builds(
        lambda start, length, new: whole[:start] + new + whole[start + length :],
        place,
        st.integers(0, 30),
        st.binary(max_size=12) | st.sampled_from([b"\xff", b"{", b"[" * 400, b"9" * 5000, b"\x00"]),
    )


@pytest.mark.parametrize("profile", Profile)
@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "method": ANYTHING,
            "headers": ANYTHING
            | st.dictionaries(st.sampled_from(sorted(HEADERS)) | st.binary(), ANYTHING).map(
                lambda own: {**HEADERS, **own}
            ),
            "body": ANYTHING,
            "url": ANYTHING,
            "secrets": ANYTHING | st.lists(st.text(max_size=9).map("whsec_".__add__), min_size=1),
            "now": ANYTHING | st.datetimes(timezones=st.just(UTC)),
            "tolerance_seconds": ANYTHING,
        },
    )
)
def test_verification_refuses_arguments_of_any_type(
    profile: Profile, changes: dict[str, Any]
) -> None:
    """Values of any type in any argument are verified or a SignatureError."""
    request: dict[str, Any] = {
        "method": "POST",
        "headers": HEADERS,
        "body": GOOD,
        "url": URL,
        "secrets": [SECRET],
        "now": NOW,
        "profile": profile,
    }
    with contextlib.suppress(SignatureError):
        verify(**{**request, **changes})


@given(spliced(GOOD) | JSON.map(lambda value: json.dumps(value).encode()) | ODD_DOCUMENTS)
def test_a_damaged_body_is_a_signal_or_a_signal_error(body: bytes) -> None:
    """A signal's bytes with some changed, and any JSON at all, raise no other class."""
    with contextlib.suppress(SignalError):
        read = Signal.from_json(body)
        assert Signal.from_json(read.body()) == read


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), ANYTHING | JSON))
def test_fields_of_any_type_are_a_signal_or_a_signal_error(fields: dict[str, Any]) -> None:
    """Whatever a strategy passes for any field raises no other class."""
    with contextlib.suppress(SignalError):
        Signal(**fields)


@given(
    value=HOSTILE_WORDS | st.text() | st.datetimes().map("{:%a, %d %b %Y %H:%M:%S GMT}".format),
    now=st.datetimes(timezones=st.just(UTC)),
    cap=st.floats(0, 1e9),
)
def test_a_retry_after_of_any_text_is_a_wait_within_its_bounds(
    value: str, now: datetime, cap: float
) -> None:
    """Any header, at any time, is nothing or a wait from 0 to the cap."""
    found = retry_after_seconds(value, now=now, cap_seconds=cap)
    assert found is None or 0 <= found <= cap


VARIABLES = [name.upper() for name in Settings.model_fields] + [
    f"SIGNALPOST_{name.upper()}" for name in (*Settings.model_fields, "data_dir")
]
URL_PARTS = (
    *":/@[]?#&=%~, a.\x00\udcffé",
    "https://",
    "redis://",
    "rediss://",
    "postgresql://",
    "::1",
)
URLS = st.lists(
    st.sampled_from([*URL_PARTS, "~nobody/", "999999999", "%zz", "ssl_cert_reqs", "1.2.3.4/99"]),
    max_size=9,
).map("".join)


@given(
    st.dictionaries(
        st.sampled_from(VARIABLES), HOSTILE_WORDS | URLS | st.text(max_size=30), max_size=4
    )
)
def test_any_environment_is_settings_or_one_line(environ: dict[str, str]) -> None:
    """Any value in any variable is settings, or one line that does not repeat the value."""
    known = {"DATABASE_URL": "postgresql://db.example/trading", "HOME": "/nonexistent"}
    told = ""
    try:
        load_settings({**known, **environ})
    except SettingError as error:
        told = str(error)
    assert len(told.splitlines()) <= 1
    if "SIGNALPOST_DATA_DIR" not in environ:  # a folder is no secret, and is told
        assert [value for value in environ.values() if len(value) > 11 and value in told] == []


@given(st.binary() | spliced(b"SIGNALPOST_REDIS_URL='redis://a'\nMAX_RETRIES=3 # few\n"))
def test_a_dotenv_of_any_bytes_is_variables_or_a_setting_error(content: bytes) -> None:
    """A damaged .env is read as far as it goes, or refused in our own words."""
    file = FOLDER / ".env"
    file.write_bytes(content)
    with contextlib.suppress(SettingError):
        read_dotenv(file)


@given(
    st.lists(
        st.binary(max_size=30)
        | spliced(GOOD)
        | st.just(GOOD)
        | ODD_DOCUMENTS
        | JSON.map(json.dumps).map(str.encode)
    ),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\x00\n"]),
)
def test_lines_of_any_bytes_are_told_one_by_one(lines: list[bytes], end: bytes) -> None:
    """Each line of any input is a signal or says why it is none, in the order of the input."""
    source = io.BytesIO(end.join(lines))
    told = [
        line
        for group in chunks(source)
        for line in checked(group, size_limit=65536, identify=lambda s: s.identified("tests"))
    ]
    assert [line.number for line in told] == sorted({line.number for line in told})
    for line in told:
        assert isinstance(line, GoodLine) or line.why


ANSWER = json.dumps(
    {"signal_id": "8f14e45f", "status": "received", "server_timestamp": "2026-03-02T21:00:00Z"}
    | {"message": "thanks", "errors": ["one"]}
).encode()


@given(
    st.integers(100, 599),
    st.binary() | spliced(ANSWER) | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_an_answer_of_any_bytes_is_read(code: int, body: bytes) -> None:
    """Whatever a receiver answers a strategy directly, it is an answer, and bounded."""
    answer = read_answer(code, body)
    assert answer.status_code == code
    assert len(answer.message) <= 2000
    assert len(answer.errors) <= 100


RAW_HEADERS = st.lists(
    st.tuples(
        st.sampled_from([*SENDER, b"content-length", b"host", b"transfer-encoding"])
        | st.binary(max_size=9),
        st.binary(max_size=20) | HOSTILE_WORDS.map(lambda text: text.encode()),
    ),
    max_size=4,
)
PIECES = st.lists(st.binary(max_size=40) | st.just(GOOD), max_size=4) | st.just([GOOD])


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder and one desk for all examples: a new file for each would be most of the time."""
    global FOLDER, DESK  # noqa: PLW0603 - hypothesis calls for fixtures that outlive an example
    FOLDER = tmp_path_factory.mktemp("fuzz")
    DESK = SqliteDesk(FOLDER)
    logging.getLogger("signalpost.receiver").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("signalpost.receiver").setLevel(logging.NOTSET)
    DESK.close()


FOLDER: Path
DESK: SqliteDesk


@pytest.mark.parametrize("profile", Profile)
@given(
    own=RAW_HEADERS,
    kept=st.sets(st.sampled_from(sorted(SENDER))) | st.just(set(SENDER)),
    pieces=PIECES,
    path=st.binary(max_size=20) | st.just(b"/hooks/signals"),
    query=st.binary(max_size=12),
    method=st.sampled_from(["POST", "GET", "POST "]) | st.text(max_size=5),
    gone=st.booleans(),
)
async def test_the_kit_answers_any_request(
    *,
    profile: Profile,
    own: list[tuple[bytes, bytes]],
    kept: set[bytes],
    pieces: list[bytes],
    path: bytes,
    query: bytes,
    method: str,
    gone: bool,
) -> None:
    """Headers, bodies, chunks and paths of any bytes get one whole answer, or hung up on."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    messages.append({"type": "http.disconnect"} if gone else {"type": "http.request"})
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    app: Receiver[Any] = DESK.app(profile=profile, max_body_bytes=2000)
    await app(
        {
            "type": "http",
            "method": method,
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "headers": [*((name, SENDER[name]) for name in sorted(kept)), *own],
        },
        receive,
        send,
    )
    if not sent:
        assert gone
        return
    start, body = sent
    assert start["status"] in (200, 201, 401, 405, 413, 422, 503)
    assert json.loads(body["body"])["status"] in ("received", "rejected")
