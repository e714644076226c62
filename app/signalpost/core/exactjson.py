"""JSON with exact numbers and exactly one spelling: the bytes of a signal's body.

Keys are sorted by Unicode code point at every level, no spaces, UTF-8 (RFC 8259, section 8.1).
Numbers keep the digits they were given, in plain notation: `1.10` stays `1.10`, `Decimal("1E+2")`
becomes `100`, and a zero never carries a sign. Python's json module can write no Decimal,
hence a writer of our own.

Everything here raises ValueError with a rule that names no value; the caller adds the field.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from numbers import Integral
from typing import Any, NoReturn

MAX_DEPTH = 32
"""How many objects and lists may lie within each other in a payload, itself included."""

MAX_NUMBER_LENGTH = 400
"""Characters of a number in plain notation; every finite float fits (the longest takes 326)."""

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NOT_A_NUMBER = "must be a Decimal, an int, a float or a string such as 1.0850"
_NOT_FINITE = "NaN and infinity are refused; a number must be such as 1.0850"
_TOO_LONG = f"a number may have at most {MAX_NUMBER_LENGTH} characters in plain notation"
_NOT_JSON = "may hold objects, lists, texts, numbers, true, false and null only"
_TOO_DEEP = f"may be nested at most {MAX_DEPTH} levels deep"
_DECIMALS = (float, Decimal)
_LISTS = (list, tuple)
_MAX_INTEGER_BITS = int(MAX_NUMBER_LENGTH / math.log10(2))


def exact_number(value: object) -> Decimal:
    """The value as a Decimal with its own digits.

    In: Decimal, int, a string spelled like a JSON number, or a float (taken by its shortest repr,
    so 1.1 is 1.1). Raises ValueError for anything else, bool included.
    """
    if isinstance(value, bool):
        raise ValueError(_NOT_A_NUMBER)  # noqa: TRY004  pydantic collects ValueErrors
    if isinstance(value, float):
        # float's own repr: a numpy.float64 is a float whose repr is "np.float64(1.1)".
        number = Decimal(float.__repr__(value))
    elif isinstance(value, Decimal):
        number = Decimal(value)
    elif isinstance(value, Integral):
        number = Decimal(_integer(value))
    elif isinstance(value, str) and len(value) <= MAX_NUMBER_LENGTH:
        if not _JSON_NUMBER.fullmatch(value):
            raise ValueError("must be a number such as 1.0850")
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise ValueError(_TOO_LONG) from None
    else:
        raise ValueError(_NOT_A_NUMBER)
    plain_notation(number)
    return number


def plain_notation(number: Decimal) -> str:
    """The digits of a number without exponent; ValueError where it has none or too many."""
    if not number.is_finite():
        raise ValueError(_NOT_FINITE)
    text = str(number)
    if "E" in text or "e" in text:  # small in a caller's decimal context of capitals=0
        if abs(number.adjusted()) > MAX_NUMBER_LENGTH:
            raise ValueError(_TOO_LONG)
        text = format(number, "f")
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError(_TOO_LONG)
    return text[1:] if text[0] == "-" and not number else text


def normalised(value: object, depth: int = 1) -> Any:
    """A deep copy made of dict, list, str, int, Decimal, bool and None only.

    ValueError where JSON cannot hold the value, or it lies deeper than MAX_DEPTH.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return checked_text(value)
    if isinstance(value, _DECIMALS):
        return exact_number(value)
    # Abstract classes last, since asking them is slow.
    if isinstance(value, int) or isinstance(value, Integral):  # noqa: SIM101
        return _integer(value)
    if depth > MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, dict) or isinstance(value, Mapping):  # noqa: SIM101
        return {_key(name): normalised(member, depth + 1) for name, member in value.items()}
    if isinstance(value, _LISTS):
        return [normalised(member, depth + 1) for member in value]
    raise ValueError(_NOT_JSON)


def checked_text(text: str) -> str:
    """The text as a plain str; ValueError for lone surrogates, which UTF-8 cannot hold."""
    plain = str.__str__(text)
    if not plain.isascii():
        try:
            plain.encode()
        except UnicodeEncodeError:
            # Its text would show the character, so it must not become a context either.
            plain = ""
        if not plain:
            raise ValueError("half of a surrogate pair cannot be written in UTF-8")
    return plain


def encode(value: Mapping[str, Any]) -> bytes:
    """The one spelling of an object made of what `normalised` gives; ValueError for all else."""
    parts: list[str] = []
    _write(value, parts.append)
    return "".join(parts).encode()


def decode(text: bytes | str) -> Any:
    """Reads JSON with every number's digits kept (a Decimal, or an int where there is no point).

    ValueError for what is not JSON in UTF-8, a key given twice, NaN, Infinity, or too deep nesting.
    """
    try:
        return _DECODER.decode(text if isinstance(text, str) else bytes(text).decode())
    except json.JSONDecodeError as error:
        problem = f"not JSON at line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError:
        problem = "not UTF-8"
    except RecursionError:
        problem = _TOO_DEEP
    except InvalidOperation:
        # An exponent beyond Decimal's own range.
        problem = _TOO_LONG
    except ValueError as error:
        # Python's own limit on the digits of an int speaks for itself; our rules come through.
        problem = _TOO_LONG if "integer string" in str(error) else str(error)
    # Raised out here, so that no context carries the document along.
    raise ValueError(problem)


def _write(value: Any, out: Callable[[str], None]) -> None:
    kind = type(value)
    if kind is str:
        out(encode_basestring(value))
    elif kind is Decimal:
        out(plain_notation(value))
    elif kind is dict:
        separator = "{"
        for name in sorted(value):
            out(separator + encode_basestring(name) + ":")
            _write(value[name], out)
            separator = ","
        out("}" if value else "{}")
    elif kind is list:
        separator = "["
        for member in value:
            out(separator)
            _write(member, out)
            separator = ","
        out("]" if value else "[]")
    elif kind is int:
        out(str(value))
    elif value is None:
        out("null")
    elif kind is bool:
        out("true" if value else "false")
    else:
        raise ValueError(_NOT_JSON)


def _integer(value: int | Integral) -> int:
    number = int(value)
    if number.bit_length() > _MAX_INTEGER_BITS:
        raise ValueError(_TOO_LONG)
    return number


def _key(name: object) -> str:
    if isinstance(name, str):
        return checked_text(name)
    raise ValueError("every key must be a text")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key is given twice in one object")
    return members


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError(_NOT_FINITE)


_DECODER = json.JSONDecoder(
    parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_unique
)
