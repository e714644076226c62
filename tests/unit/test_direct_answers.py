"""A receiver's answer, read from whatever bytes it sends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.direct.answers import ANSWER_BYTES, read_answer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5
)
FIELDS = st.sampled_from(["signal_id", "status", "server_timestamp", "message", "errors", "more"])


def test_the_kit_s_answer_is_read() -> None:
    """Every field of an answer comes through, and one that is not known is left out."""
    body = {
        "signal_id": "8f14e45f-ceea-8167-9a36-dedd4bea2543",
        "status": "received",
        "server_timestamp": "2026-03-02T21:00:00.123456Z",
        "message": "thanks",
        "errors": ["one", {"field": "side"}],
        "trace": "not ours",
    }
    answer = read_answer(201, json.dumps(body).encode())
    assert (answer.status_code, answer.signal_id) == (201, body["signal_id"])
    assert (answer.status, answer.message) == ("received", "thanks")
    assert answer.server_timestamp == datetime(2026, 3, 2, 21, 0, 0, 123456, tzinfo=UTC)
    assert answer.errors == ("one", '{"field": "side"}')
    assert not hasattr(answer, "trace")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"OK",
        b"[1, 2]",
        b"7",
        b'{"status": "recei',
        b'{"status": "\xff"}',
        b'{"status": "received", "pad": "' + b"x" * ANSWER_BYTES + b'"}',
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"status": ' + b"9" * 5000 + b"",
    ],
    ids=["empty", "text", "list", "number", "cut", "not UTF-8", "too long", "deep", "digits"],
)
def test_what_is_no_readable_object_tells_its_status_code_alone(body: bytes) -> None:
    """An unreadable answer is no error: the code says what became of the signal."""
    answer = read_answer(202, body)
    assert answer.model_dump() == {
        "status_code": 202,
        "signal_id": None,
        "status": None,
        "server_timestamp": None,
        "message": "",
        "errors": (),
    }


def test_values_of_other_kinds_are_read_as_far_as_they_go() -> None:
    """Numbers become texts, a lone error a list, a strange time nothing; the code is HTTP's."""
    body = b'{"signal_id": 7, "status_code": 500, "errors": "no", "server_timestamp": "yesterday"}'
    answer = read_answer(200, body)
    assert (answer.signal_id, answer.errors, answer.server_timestamp) == ("7", ("no",), None)
    assert answer.status_code == 200


@given(st.dictionaries(FIELDS, JSON))
def test_no_object_is_an_error(body: dict[str, Any]) -> None:
    """Whatever JSON stands in the known fields, the answer is read, and bounded."""
    answer = read_answer(200, json.dumps(body).encode())
    assert len(answer.message) <= 2000
    assert len(answer.errors) <= 100


def test_the_receiver_s_words_stay_out_of_the_repr() -> None:
    """A receiver may quote the signal, so what may reach logs shows labels only."""
    body = b'{"status": "rejected", "message": "189.4567 is silly", "errors": ["189.4567"]}'
    assert "189" not in repr(read_answer(422, body)) + str(read_answer(422, body))
