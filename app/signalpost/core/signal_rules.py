"""The rules of a signal's fields, and the words for a broken one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, ValidationError

from signalpost.core import exactjson
from signalpost.core.instants import instant

__all__ = ["Confidence", "Instant", "Price", "broken_price_rules", "plain_payload", "problems"]

MAX_PRICE = Decimal(1_000_000)

# One sentence a field, so that no message of pydantic's, some of which quote the input, gets out.
_RULES = {
    "instrument": "must be 2 to 20 of A-Z, 0-9, dot, underscore and hyphen",
    "side": "must be buy or sell",
    "action": "must be open, close, modify or cancel",
    "reason": "must be a text of 1 to 200 characters",
    "version": "must be 1 to 20 letters, digits, dots, underscores and hyphens",
    "payload": "must be a JSON object",
}


def _price(value: object) -> Decimal:
    number = exactjson.exact_number(value)
    if not 0 < number < MAX_PRICE:
        raise ValueError("must be above 0 and below 1,000,000")
    return number


def _confidence(value: object) -> Decimal:
    number = exactjson.exact_number(value)
    if not 0 <= number <= 1:
        raise ValueError("must be from 0 to 1")
    return number


def plain_payload(value: object) -> object:
    """A payload of JSON's own kinds of values; what is no mapping is left to the field's type."""
    return exactjson.normalised(value) if isinstance(value, Mapping) else value


Price = Annotated[Decimal, BeforeValidator(_price)]
Confidence = Annotated[Decimal, BeforeValidator(_confidence)]
Instant = Annotated[datetime, BeforeValidator(instant)]


def broken_price_rules(
    side: str, entry: Decimal, stop: Decimal | None, target: Decimal | None
) -> list[str]:
    """What is wrong with the levels of a signal that opens a position; a line for each rule."""
    if stop is None or target is None:
        levels = {"stop_loss": stop, "take_profit": target}
        missing = [name for name, level in levels.items() if level is None]
        return [f"{name}: is required to open a position" for name in missing]
    if side == "buy" and not stop < entry < target:
        return ["prices: to buy, stop_loss must be below entry_price and take_profit above it"]
    if side == "sell" and not target < entry < stop:
        return ["prices: to sell, take_profit must be below entry_price and stop_loss above it"]
    return []


def problems(error: ValidationError) -> list[str]:
    """One line for each broken rule, in our words; none quotes what was given."""
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        # The first step names the field; further ones would name parts of the payload.
        field = ascii(item["loc"][0])[1:-1][:40] if item["loc"] else "signal"
        if item["type"] == "missing":
            rule = "is required"
        elif item["type"] == "extra_forbidden":
            rule = "is not a field of a signal"
        elif item["type"] == "value_error":
            rule = str(item["ctx"]["error"])
        else:
            rule = _RULES.get(field, "must be an object with the fields of a signal")
        lines.append(f"{field}: {rule}")
    return lines
