from __future__ import annotations

import contextlib
import json
from collections import OrderedDict, UserDict
from decimal import Decimal, localcontext
from enum import Enum, IntEnum
from fractions import Fraction
from numbers import Integral
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.core import exactjson

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False).filter(
    lambda number: abs(number.adjusted()) < 300
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | DECIMALS
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=5)


class Colour(str, Enum):  # noqa: UP042  its str() is "Colour.RED", which must not be sent
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class ForeignFloat(float):
    def __repr__(self) -> str:
        return f"foreign({float(self)})"


class ForeignDecimal(Decimal):
    def __str__(self) -> str:
        return "foreign"


class ForeignInteger:
    """Stands for numpy's integers, which are registered as Integral and are no int."""

    def __int__(self) -> int:
        return 7


Integral.register(ForeignInteger)


@pytest.mark.parametrize(
    ("given_value", "text"),
    [
        ("1.10", "1.10"),
        ("0.00000001", "0.00000001"),
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+2"), "100"),
        (Decimal("1.50E+1"), "15.0"),
        (Decimal("1E-9"), "0.000000001"),
        (Decimal("-0"), "0"),
        (Decimal("-0.00"), "0.00"),
        (Decimal("0E+3"), "0"),
        ("1e3", "1000"),
        (7, "7"),
        (-7, "-7"),
        (1.1, "1.1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e22, "10000000000000000000000"),
        (-0.0, "0.0"),
        (5e-324, "0." + "0" * 323 + "5"),
        (ForeignFloat(1.1), "1.1"),
        (ForeignDecimal("1.10"), "1.10"),
        (ForeignInteger(), "7"),
    ],
)
def test_a_number_keeps_its_digits_in_plain_notation(given_value: object, text: str) -> None:
    """What is written is the very digits that were given, without exponent or signed zero."""
    assert exactjson.plain_notation(exactjson.exact_number(given_value)) == text


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        b"1",
        "",
        " 1",
        "1 ",
        "+1",
        "01",
        ".5",
        "5.",
        "1_000",
        "1,5",
        "0x10",
        "NaN",
        "Infinity",
        "\u0661",
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        Decimal("1E+400"),
        Decimal("1E-400"),
        Decimal("1E+999999"),
        pytest.param("1" * 401, id="401 digits"),
        "1e999999999",
        "1e99999999999999999999",
        pytest.param(10**400, id="ten to the 400th"),
        pytest.param(10**5000, id="ten to the 5000th"),
        1j,
        Fraction(1, 2),
        [1],
    ],
)
def test_what_is_no_exact_number_is_refused(value: object) -> None:
    """Booleans, blanks, NaN, other spellings and endless digits are one class of error."""
    with pytest.raises(ValueError, match=r"^(must be|NaN and|a number may)"):
        exactjson.exact_number(value)


@given(OBJECTS)
def test_writing_and_reading_back_changes_nothing(value: dict[str, Any]) -> None:
    """Any object reads back as equal and writes to the same bytes again."""
    clean = exactjson.normalised(value)
    written = exactjson.encode(clean)
    read = exactjson.decode(written)
    assert read == clean
    assert exactjson.encode(exactjson.normalised(read)) == written


@given(OBJECTS)
def test_keys_are_sorted_at_every_level_without_spaces(value: dict[str, Any]) -> None:
    """Python's own json, asked for sorted keys and no spaces, gives the same but for numbers."""

    def plain(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: plain(member) for name, member in part.items()}
        if isinstance(part, list):
            return [plain(member) for member in part]
        return 0 if isinstance(part, int | Decimal) and not isinstance(part, bool) else part

    clean = plain(exactjson.normalised(value))
    ours = exactjson.encode(clean).decode()
    assert ours == json.dumps(clean, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@given(DECIMALS)
def test_a_decimal_survives_with_every_digit(number: Decimal) -> None:
    """Value and number of digits after the point come back from the wire."""
    read = exactjson.decode(exactjson.encode({"n": number}))["n"]
    assert read == number
    exponent, given_exponent = Decimal(read).as_tuple().exponent, number.as_tuple().exponent
    assert isinstance(given_exponent, int)
    assert exponent == min(given_exponent, 0)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_fits(number: float) -> None:
    """A strategy's float goes over the wire by its shortest form and is the same float again."""
    assert float(exactjson.plain_notation(exactjson.exact_number(number))) == number


def test_kinds_that_only_look_like_json_become_plain() -> None:
    """Enums, mappings, tuples and foreign integers are taken for what they hold."""
    value = UserDict(
        {
            "a": Colour.RED,
            "b": Level.HIGH,
            "c": (ForeignDecimal(1), OrderedDict(d=ForeignInteger())),
        }
    )
    clean = exactjson.normalised(value)
    assert clean == {"a": "red", "b": 3, "c": [1, {"d": 7}]}
    assert exactjson.encode(clean) == b'{"a":"red","b":3,"c":[1,{"d":7}]}'


def test_only_what_is_clean_is_written() -> None:
    """A float is no number of ours, least of all true, and nothing else slips through either."""
    assert exactjson.encode({"a": [True, False, None, 1, 0]}) == b'{"a":[true,false,null,1,0]}'
    for value in (1.0, 0.0, 1.5, (1,), {1}):
        with pytest.raises(ValueError, match="objects, lists"):
            exactjson.encode({"a": value})


@pytest.mark.parametrize(
    "value", [{"a": {1}}, {"a": b"x"}, {1: "a"}, {"a": object()}, {"a": "\ud800"}, {"\udfff": 1}]
)
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    """Sets, bytes, keys that are no texts and half surrogates are a ValueError without context."""
    with pytest.raises(ValueError, match=r"^(may hold|every key|half of)") as caught:
        exactjson.normalised(value)
    assert caught.value.__context__ is None


def test_nesting_is_bounded() -> None:
    """The deepest level allowed is taken, one more is refused, a cycle too."""

    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    exactjson.normalised(nested(exactjson.MAX_DEPTH))
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (nested(exactjson.MAX_DEPTH + 1), cycle):
        with pytest.raises(ValueError, match="nested at most 32"):
            exactjson.normalised(value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"", "not JSON at line 1, column 1"),
        (b'{"a":1,}', "not JSON at line 1"),
        (b'{"a":1} {', "not JSON at line 1"),
        (b'\xef\xbb\xbf{"a":1}', "not JSON"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":1,"a":1}', "a key is given twice"),
        (b'{"x":[{"a":1,"a":2}]}', "a key is given twice"),
        (b'{"a":NaN}', "NaN and infinity"),
        (b'{"a":-Infinity}', "NaN and infinity"),
        (b'{"a":1e99999999999999999999}', "at most 400 characters"),
        pytest.param(b"[" * 100_000, "nested at most", id="deep"),
        pytest.param(b'{"a":' + b"1" * 5000 + b"}", "at most 400 characters", id="long"),
    ],
)
def test_what_is_not_strict_json_is_refused(text: bytes, problem: str) -> None:
    """Each way to be broken is named, without a piece of the text and without a context."""
    with pytest.raises(ValueError, match=problem) as caught:
        exactjson.decode(text)
    assert caught.value.__context__ is None


@given(st.binary() | st.text())
def test_any_text_reads_or_is_refused(text: bytes | str) -> None:
    """No input whatever raises another class than ValueError."""
    with contextlib.suppress(ValueError):
        exactjson.decode(text)


def test_a_decimal_context_of_the_caller_s_changes_no_digit() -> None:
    """The bytes, and so a signal's id, are the same whatever the caller's decimal context."""
    with localcontext(prec=2, capitals=0):
        assert exactjson.encode({"x": exactjson.exact_number(Decimal("1E+2"))}) == b'{"x":100}'
        assert exactjson.encode({"x": exactjson.exact_number("1.23456")}) == b'{"x":1.23456}'
