from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import pickle
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from signalpost.core.signals import Signal, check_body_size, check_key, check_producer_id
from signalpost.errors import ConfigurationError, SignalError

NOW = datetime(2026, 1, 15, 14, 30, tzinfo=UTC)
GIVEN: dict[str, Any] = {
    "instrument": "EURUSD",
    "side": "buy",
    "entry_price": Decimal("1.0850"),
    "stop_loss": "1.0810",
    "take_profit": 1.095,
    "confidence": "0.80",
    "reason": "RSI back above 30",
    "timestamp": NOW,
}
BODY = (
    b'{"confidence":0.80,"entry_price":1.0850,"instrument":"EURUSD","payload":{},'
    b'"reason":"RSI back above 30","side":"buy","stop_loss":1.0810,"take_profit":1.095,'
    b'"timestamp":"2026-01-15T14:30:00.000000Z","version":"1.0"}'
)
DIGITS = st.from_regex(r"[1-9][0-9]{0,4}(\.[0-9]{1,12})?", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=ZONES)  # noqa: DTZ001
PAYLOADS = st.dictionaries(
    TEXTS, st.recursive(st.none() | TEXTS | st.integers() | st.floats(-9, 9), st.lists), max_size=4
)


def signal(**changes: Any) -> Signal:
    return Signal(**{**GIVEN, **changes})


@st.composite
def given_fields(draw: st.DrawFn) -> dict[str, Any]:
    low, entry, high = sorted((draw(DIGITS), draw(DIGITS), draw(DIGITS)), key=Decimal)
    action = draw(st.sampled_from(["open", "close", "modify", "cancel"]))
    if action == "open" and not Decimal(low) < Decimal(entry) < Decimal(high):
        action = "close"
    side = draw(st.sampled_from(["buy", "sell"]))
    fields = {
        "instrument": draw(st.from_regex(r"[A-Z0-9._-]{2,20}", fullmatch=True)),
        "side": side,
        "action": action,
        "entry_price": entry,
        "stop_loss": low if side == "buy" else high,
        "take_profit": high if side == "buy" else low,
        "confidence": draw(st.decimals(0, 1, allow_nan=False, places=4)),
        "reason": draw(TEXTS),
        "timestamp": draw(INSTANTS),
        "payload": draw(PAYLOADS),
        "expires_at": draw(st.none() | INSTANTS),
        "id": draw(st.none() | st.uuids()),
    }
    if action != "open" and draw(st.booleans()):
        fields["stop_loss"] = fields["take_profit"] = None
    return fields


def test_the_body_is_these_bytes() -> None:
    """Sorted keys, no spaces, digits as given; what was not given is not there, but payload is."""
    assert signal().body() == BODY


def test_every_optional_field_appears_where_it_is_set() -> None:
    """Action, expiry, id and the payload stand in the body once the producer sets them."""
    full = signal(
        action="modify",
        payload={"b": Decimal("2.50"), "a": {"d": None, "c": [True, "é"]}},
        version="2",
        expires_at="2026-01-15T16:35:00.5+02:00",
        id="8F14E45F-CEEA-8167-9A36-DEDD4BEA2543",
    )
    assert full.body().decode() == (
        '{"action":"modify","confidence":0.80,"entry_price":1.0850,'
        '"expires_at":"2026-01-15T14:35:00.500000Z","id":"8f14e45f-ceea-8167-9a36-dedd4bea2543",'
        '"instrument":"EURUSD","payload":{"a":{"c":[true,"é"],"d":null},"b":2.50},'
        '"reason":"RSI back above 30","side":"buy","stop_loss":1.0810,"take_profit":1.095,'
        '"timestamp":"2026-01-15T14:30:00.000000Z","version":"2"}'
    )


def test_the_default_action_is_left_out() -> None:
    """A producer that says open and one that says nothing send the same bytes."""
    assert signal(action="open").body() == BODY


@given(given_fields())
def test_a_body_reads_back_as_the_same_signal_and_the_same_bytes(fields: dict[str, Any]) -> None:
    """From the wire comes an equal signal, field by field, that makes the very same body."""
    sent = Signal(**fields)
    read = Signal.from_json(sent.body())
    assert read == sent
    assert read.body() == sent.body()
    assert read.model_dump() == sent.model_dump()
    assert Signal.from_json(sent.body().decode()) == sent


@given(DIGITS)
def test_the_digits_of_a_price_are_the_producers(digits: str) -> None:
    """A price goes out with the digits it came in with, trailing zeros included."""
    body = signal(entry_price=digits, action="close").body().decode()
    assert f'"entry_price":{digits},' in body


@pytest.mark.parametrize(
    ("price", "text"),
    [(Decimal("1E+2"), "100"), (100, "100"), (0.00001, "0.00001"), (Decimal("1e-7"), "0.0000001")],
)
def test_a_price_never_has_an_exponent(price: object, text: str) -> None:
    """However a price is given, it is written in plain notation with the same value."""
    body = signal(entry_price=price, action="close").body().decode()
    assert f'"entry_price":{text},' in body


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"instrument": "E"}, "instrument"),
        ({"instrument": "EURUSD\n"}, "instrument"),
        ({"instrument": "eurusd"}, "instrument"),
        ({"instrument": "A" * 21}, "instrument"),
        ({"instrument": "EUR USD"}, "instrument"),
        ({"instrument": 12}, "instrument"),
        ({"instrument": "ÄÖ"}, "instrument"),
        ({"side": "BUY"}, "side"),
        ({"side": "hold"}, "side"),
        ({"side": None}, "side"),
        ({"action": "OPEN"}, "action"),
        ({"action": "reverse"}, "action"),
        ({"entry_price": 0}, "entry_price"),
        ({"entry_price": -1}, "entry_price"),
        ({"entry_price": 1_000_000}, "entry_price"),
        ({"entry_price": float("nan")}, "entry_price"),
        ({"entry_price": Decimal("Infinity")}, "entry_price"),
        ({"entry_price": True}, "entry_price"),
        ({"entry_price": "1,5"}, "entry_price"),
        ({"entry_price": None}, "entry_price"),
        ({"stop_loss": 0}, "stop_loss"),
        ({"take_profit": "1e6"}, "take_profit"),
        ({"confidence": "1.0001"}, "confidence"),
        ({"confidence": -0.1}, "confidence"),
        ({"confidence": False}, "confidence"),
        ({"confidence": Decimal("sNaN")}, "confidence"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 201}, "reason"),
        ({"reason": b"bytes"}, "reason"),
        ({"reason": "half \ud83d"}, "reason"),
        ({"timestamp": datetime(2026, 1, 15)}, "timestamp"),  # noqa: DTZ001
        ({"timestamp": "2026-01-15T14:30:00"}, "timestamp"),
        ({"timestamp": "2026-02-30T14:30:00Z"}, "timestamp"),
        ({"timestamp": "2026-01-15T14:30:00.1234567Z"}, "timestamp"),
        ({"timestamp": 1768487400}, "timestamp"),
        ({"timestamp": NOW.date()}, "timestamp"),
        ({"timestamp": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))}, "timestamp"),
        ({"expires_at": datetime(2026, 1, 15)}, "expires_at"),  # noqa: DTZ001
        ({"payload": [1]}, "payload"),
        ({"payload": None}, "payload"),
        ({"payload": {1: 2}}, "payload"),
        ({"payload": {"a": {"b": {1, 2}}}}, "payload"),
        ({"payload": {"a": float("inf")}}, "payload"),
        ({"payload": {"a": "\udc00"}}, "payload"),
        ({"version": ""}, "version"),
        ({"version": "1 0"}, "version"),
        ({"version": 1}, "version"),
        ({"id": "8f14e45fceea81679a36dedd4bea2543"}, "id"),
        ({"id": 7}, "id"),
        ({"ttl": 30}, "ttl"),
    ],
)
def test_a_broken_rule_is_named_by_its_field(changes: dict[str, Any], field: str) -> None:
    """Exactly one problem is reported, and it begins with the field's name."""
    with pytest.raises(SignalError) as caught:
        signal(**changes)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{field}: ")


@pytest.mark.parametrize("field", [name for name in GIVEN if name != "stop_loss"])
def test_what_must_be_given_is_missed(field: str) -> None:
    """Without a required field there is no signal, and the field is named."""
    fields = {name: value for name, value in GIVEN.items() if name != field}
    with pytest.raises(SignalError, match=rf"^signal refused: {field}: is required"):
        Signal(**fields)


def test_several_broken_rules_are_reported_together() -> None:
    """One look at the error is enough to mend the whole signal."""
    with pytest.raises(SignalError) as caught:
        Signal.model_validate({**GIVEN, "side": "up", "reason": "", "extra": 1})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "side",
        "reason",
        "extra",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"entry_price": "0.000000000001", "action": "cancel"},
        {"entry_price": "999999.999999", "action": "close"},
        {"confidence": 0},
        {"confidence": 1},
        {"instrument": "US"},
        {"instrument": "BTC-USD_PERP.Q26.XY0"},
        {"reason": "x"},
        {"reason": "é" * 200},
        {"timestamp": "2026-01-15t14:30:00.5-03:30"},
        {"expires_at": NOW + timedelta(days=1)},
        {"payload": {}},
        {"id": UUID(int=0)},
    ],
)
def test_the_edges_of_the_rules_are_inside(changes: dict[str, Any]) -> None:
    """What lies just within a rule is taken."""
    assert signal(**changes).body()


@pytest.mark.parametrize(
    ("side", "stop_loss", "take_profit", "well"),
    [
        ("buy", "1.08", "1.09", True),
        ("buy", "1.0850", "1.09", False),
        ("buy", "1.08", "1.08500", False),
        ("buy", "1.09", "1.08", False),
        ("sell", "1.09", "1.08", True),
        ("sell", "1.0850", "1.08", False),
        ("sell", "1.09", "1.0850", False),
        ("sell", "1.08", "1.09", False),
    ],
)
def test_to_open_the_prices_lie_in_order(
    side: str, stop_loss: str, take_profit: str, *, well: bool
) -> None:
    """A bought position stops below and profits above its entry, a sold one the other way round."""
    changes = {"side": side, "stop_loss": stop_loss, "take_profit": take_profit}
    if well:
        signal(**changes)
    else:
        with pytest.raises(SignalError, match=f"prices: to {side}, "):
            signal(**changes)
    for action in ("close", "modify", "cancel"):
        assert signal(**changes, action=action).action == action


@pytest.mark.parametrize("missing", ["stop_loss", "take_profit"])
def test_to_open_both_limits_are_needed(missing: str) -> None:
    """Opening without stop or target is refused; the other actions need neither."""
    with pytest.raises(SignalError, match=f"{missing}: is required to open"):
        signal(**{missing: None})
    for action in ("close", "modify", "cancel"):
        assert missing.encode() not in signal(**{missing: None}, action=action).body()


def test_times_are_kept_in_utc() -> None:
    """An aware time from anywhere is the same instant in UTC, as a plain datetime."""

    class Stamp(datetime):
        """Stands for pandas.Timestamp, a datetime that prints itself otherwise."""

        def isoformat(self, *args: Any, **kwargs: Any) -> str:
            return "elsewhere"

    local = Stamp(2026, 1, 15, 9, 30, tzinfo=timezone(timedelta(hours=-5)))
    made = signal(timestamp=local)
    assert made.timestamp == NOW
    assert type(made.timestamp) is datetime
    assert made.body() == BODY


def test_enums_of_texts_are_taken_for_their_values() -> None:
    """A strategy with enums of its own sends what they hold."""

    class Name(str, Enum):  # noqa: UP042  its str() is "Name.BUY", which must not be sent
        EURUSD = "EURUSD"
        BUY = "buy"
        WHY = "RSI back above 30"

    assert signal(instrument=Name.EURUSD, side=Name.BUY, reason=Name.WHY).body() == BODY


def test_a_signal_does_not_change() -> None:
    """Neither its fields nor, through its payload, the body can be changed."""
    levels = [1]
    made = signal(payload={"levels": levels})
    body = made.body()
    with pytest.raises(ValidationError):
        made.side = "sell"  # type: ignore[misc]
    levels.append(2)
    made.payload["levels"].append(3)
    assert made.body() == body == signal(payload={"levels": [1]}).body()


def test_what_is_sent_is_what_was_checked() -> None:
    """A payload changed afterwards goes out neither with the id of the old one, nor unchecked."""
    made = signal(payload={"size": 5, "price": Decimal("1.50")})
    for size in (1.0, 1.5, {1}):
        made.payload["size"] = size
        sent = made.identified("desk")
        assert sent == signal(payload={"size": 5, "price": Decimal("1.50")}).identified("desk")
        assert sent.payload == {"size": 5, "price": Decimal("1.50")}


def test_a_copy_is_checked_like_a_new_signal() -> None:
    """A copy with other values has its own body, and obeys the rules."""
    assert signal().model_copy(update={"confidence": 1}).body() == signal(confidence=1).body()
    with pytest.raises(SignalError, match="side: must be buy or sell"):
        signal().model_copy(update={"side": "up"})
    with pytest.raises(SignalError, match="ttl: is not a field of a signal"):
        signal().model_copy(update={"ttl": 1})


def test_copies_keep_the_body() -> None:
    """A signal that was pickled or copied is equal, hashes alike and sends the same bytes."""
    made = signal(payload={"a": [Decimal("1.50")]}).identified("desk")
    for other in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):  # noqa: S301
        assert other == made
        assert hash(other) == hash(made)
        assert other.body() == made.body()


def test_signals_are_equal_exactly_if_their_bytes_are() -> None:
    """The digits count: 1.0850 and 1.085 are the same price but not the same signal."""
    assert signal() == signal()
    assert signal() != signal(entry_price="1.085")
    assert signal() != BODY
    assert len({signal(), signal(), signal(side="sell", action="close")}) == 2


def test_prices_reason_and_payload_show_nowhere() -> None:
    """Neither the representation nor any error's text or traceback holds a private value."""
    private: dict[str, Any] = {
        "entry_price": "31337.75",
        "stop_loss": "31336.75",
        "take_profit": "31338.75",
        "confidence": "0.31337",
        "reason": "private-word",
        "payload": {"note": "private-word", "level": Decimal("31337.5")},
    }
    made = signal(**private).identified("desk")
    assert repr(made) == f"Signal(id={made.id!r}, instrument='EURUSD', side='buy', action='open')"
    texts = [repr(made), str(made), f"{made}"]
    changes: list[dict[str, Any]] = [
        *({name: f"{value} private-word" * 20} for name, value in private.items()),
        {"take_profit": "31330"},
        {"payload": {"a": "private-word", "b": float("nan")}},
        {"payload": {"private-word": {"a": object()}}},
        {"timestamp": "private-word"},
        {"id": "private-word"},
        {"version": "private-word 31337"},
        {"expires_at": "31337"},
        {"surprise": "private-word"},
    ]
    for change in changes:
        with pytest.raises(SignalError) as caught:
            signal(**{**private, **change})
        texts += [repr(caught.value), *traceback.format_exception(caught.value)]
    for text in (b'{"reason":"private-word",', b'{"entry_price":31337.75}', b'"private-word"'):
        with pytest.raises(SignalError) as caught:
            Signal.from_json(text)
        texts += [repr(caught.value), *traceback.format_exception(caught.value)]
    # A traceback quotes the lines of this file, which name no value outside the table above.
    assert not [text for text in texts if "private-word" in text or "3133" in text]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[]", "signal: must be an object"),
        (b'"x"', "signal: must be an object"),
        (b"null", "signal: must be an object"),
        (b"{}", "instrument: is required"),
        (b"{", "JSON: not JSON at line 1"),
        (BODY[:-1] + b',"side":"sell"}', "JSON: a key is given twice"),
        (
            BODY.replace(b"1.0850", b"NaN"),
            "JSON: NaN and infinity are refused; a number must be such as 1.0850",
        ),
        (BODY.replace(b"RSI", b"\\ud800"), "reason: "),
        (BODY.replace(b"RSI", b"\xff"), "JSON: not UTF-8"),
        (BODY.replace(b"{}", b'{"a":' * 33 + b"1" + b"}" * 33), "payload: may be nested"),
    ],
)
def test_what_is_no_signal_in_json_is_refused(text: bytes, problem: str) -> None:
    """Each fault of a line of JSON is one SignalError that says what it is."""
    with pytest.raises(SignalError) as caught:
        Signal.from_json(text)
    assert caught.value.problems[0].startswith(problem)


@given(st.binary() | st.text())
def test_any_text_is_a_signal_or_a_signal_error(text: bytes | str) -> None:
    """No input whatever makes from_json raise another class."""
    with pytest.raises(SignalError):
        Signal.from_json(text)


@given(
    st.dictionaries(
        st.sampled_from(sorted(Signal.model_fields)),
        st.none() | st.booleans() | st.floats() | st.text() | st.binary() | st.decimals(),
    )
)
def test_any_values_are_a_signal_or_a_signal_error(values: Mapping[str, Any]) -> None:
    """Values of any kind in any field raise no other class."""
    with contextlib.suppress(SignalError):
        signal(**values)


def test_an_id_is_derived_from_producer_and_body() -> None:
    """The id is this one on every machine, in every process, whatever the hash seed."""
    derived = signal().identified("desk").id
    digest = bytearray(hashlib.sha256(b"signalpost:body\0desk\0" + BODY).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    assert derived == UUID(bytes=bytes(digest))
    assert str(derived) == "d4638c9c-8b83-8294-807e-00511d321649"


def test_an_id_is_derived_from_producer_and_key() -> None:
    """Under a key the id depends on the key alone, so that a changed body is found out."""
    derived = signal().identified("desk", "order 17 é").id
    assert str(derived) == "b1cc218e-6411-83c5-84fb-17b068a218ea"
    assert derived == signal(confidence=1).identified("desk", "order 17 é").id


def test_ids_tell_producers_keys_and_bodies_apart() -> None:
    """Another producer, key, kind of material or body gives another id; a given id stays."""
    ids = {
        signal().identified("desk").id,
        signal().identified("desk2").id,
        signal(confidence=1).identified("desk").id,
        signal().identified("desk", "a").id,
        signal().identified("desk", "b").id,
        signal().identified("desk2", "a").id,
        signal().identified("desk", BODY.decode()[:200]).id,
    }
    assert len(ids) == 7
    own = signal(id=UUID(int=7))
    assert own.identified("desk", "key") is own


def test_an_identified_signal_carries_its_id() -> None:
    """The id stands in the body, lower-case, and identifying again changes nothing."""
    made = signal().identified("desk", "key")
    assert json.loads(made.body())["id"] == str(made.id)
    assert made.identified("other") is made
    assert Signal.from_json(made.body()) == made
    assert signal().id is None


@pytest.mark.parametrize("value", ["", "a" * 65, "a b", "ä", "a\n", None, 7])
def test_a_bad_producer_id_is_refused(value: object) -> None:
    """A producer id is 1 to 64 letters, digits, underscores and hyphens, and nothing else."""
    with pytest.raises(ConfigurationError, match="producer_id must be 1 to 64"):
        check_producer_id(value)


@pytest.mark.parametrize("value", ["", "a" * 201, "a\nb", "a\0", "\ud800", None, 7])
def test_a_bad_key_is_refused(value: object) -> None:
    """A key is a printable text of 1 to 200 characters."""
    with pytest.raises(SignalError, match="key: must be a printable text"):
        check_key(value)


def test_good_producer_ids_and_keys_come_back_unchanged() -> None:
    """What obeys the rule is given back as it is."""
    assert check_producer_id("A" * 64) == "A" * 64
    assert check_key("order 17/é") == "order 17/é"


def test_a_body_may_be_as_long_as_the_limit() -> None:
    """A body of exactly the limit passes, one byte more is refused with both figures."""
    check_body_size(b"x" * 1024, 1024)
    with pytest.raises(SignalError, match="1025 bytes and at most 1024"):
        check_body_size(b"x" * 1025, 1024)


@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
def test_no_way_of_copying_keeps_an_old_body() -> None:
    """Pydantic's older copy and its unchecked construction give signals with their own bodies."""
    given = Signal(**GIVEN)
    changed = given.copy(update={"entry_price": "1.0851"})
    assert b'"entry_price":1.0851' in changed.body()
    assert Signal.model_construct(**GIVEN).body() == given.body()
    with pytest.raises(SignalError, match="instrument"):
        Signal.model_construct(**{**GIVEN, "instrument": "no"})
