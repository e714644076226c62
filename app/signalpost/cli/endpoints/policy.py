"""The options of an endpoint's policy that `endpoint add` and `endpoint set` have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from signalpost.cli import values

__all__ = ["either_retries", "given_headers", "given_policy", "policy_options"]

ALL = "all"
NONE = "none"

_FILTERS = {"instrument": "instruments", "side": "sides", "action": "actions"}
_FILTERS["producer"] = "producers"


def policy_options(command: Any) -> Any:
    """Filters, limits, order and extra headers; they come in as one mapping `policy`."""
    for option in reversed(
        (
            click.option(
                "--retry-schedule",
                metavar="SPAN,SPAN,...|none",
                help="The wait before each retry, instead of --max-retries and --retry-delay.",
            ),
            click.option(
                "--instrument",
                multiple=True,
                metavar="GLOB|all",
                help="Take only these, such as 'EUR*'; again for more.",
            ),
            click.option("--side", multiple=True, type=click.Choice(["buy", "sell", ALL])),
            click.option(
                "--action",
                multiple=True,
                type=click.Choice(["open", "close", "modify", "cancel", ALL]),
            ),
            click.option(
                "--producer",
                multiple=True,
                metavar="ID|all",
                help="Take only what these strategies enqueue.",
            ),
            click.option(
                "--min-confidence", metavar="X|none", help="Take only from this confidence on."
            ),
            click.option(
                "--max-in-flight",
                metavar="N|none",
                help="Requests at once at most, of all workers together.",
            ),
            click.option(
                "--rate", metavar="N|none", help="Requests a second at most, of all workers."
            ),
            click.option(
                "--ordered/--unordered",
                default=None,
                help="One at a time of each ordering key, in the order of enqueueing.",
            ),
            click.option(
                "--on-dead",
                type=click.Choice(["skip", "block"]),
                help="Ordered: what a dead one means for those after it.",
            ),
            click.option(
                "--header", multiple=True, metavar="'NAME: VALUE'", help="Send this header as well."
            ),
            click.option(
                "--headers-file",
                type=click.Path(path_type=Path, dir_okay=False),
                metavar="FILE",
                help="Read such headers from a file, one a line: no process list shows it.",
            ),
        )
    ):
        command = option(command)
    return command


def given_policy(policy: Mapping[str, Any]) -> dict[str, Any]:
    """What was given of the policy, by the names of the columns; None takes a limit away."""
    changes: dict[str, Any] = {
        column: _words(option, policy[option])
        for option, column in _FILTERS.items()
        if policy[option]
    }
    for option, column, kind in (
        ("min_confidence", "min_confidence", Decimal),
        ("max_in_flight", "max_in_flight", int),
        ("rate", "rate_per_second", float),
    ):
        if policy[option] is not None:
            changes[column] = _number(option, policy[option], kind)
    if policy["retry_schedule"] is not None:
        changes["retry_schedule_seconds"] = _waits(policy["retry_schedule"])
    for name in ("ordered", "on_dead"):
        if policy[name] is not None:
            changes[name] = policy[name]
    return changes


def given_headers(policy: Mapping[str, Any]) -> dict[str, str]:
    """The extra headers that were given, the file's first. No error tells a value."""
    lines = list(policy["header"])
    if policy["headers_file"] is not None:
        try:
            text = policy["headers_file"].read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise click.ClickException("the file of headers is not text in UTF-8") from None
        lines = [line for line in text.splitlines() if line.strip()] + lines
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise click.BadParameter("write a header as 'NAME: VALUE'", param_hint="'--header'")
        if name.lower() in {known.lower() for known in found}:
            raise click.BadParameter("a header is given twice", param_hint="'--header'")
        found[name.strip()] = value.strip(" ")
    return found


def either_retries(changes: dict[str, Any]) -> None:
    """Let a schedule that is given end the number and the delay of before, and the reverse."""
    if changes.get("retry_schedule_seconds") is not None:
        changes.setdefault("max_retries", None)
        changes.setdefault("retry_delay_seconds", None)
    elif changes.get("max_retries") is not None or changes.get("retry_delay_seconds") is not None:
        changes.setdefault("retry_schedule_seconds", None)


def _waits(text: str) -> list[float] | None:
    if text == NONE:
        return None
    try:
        return [values.span(one) for one in text.split(",")]
    except click.BadParameter:
        raise click.BadParameter(
            f"write spans of time with commas between, such as 1s,5s,30s, or {NONE}",
            param_hint="'--retry-schedule'",
        ) from None


def _words(option: str, given: Sequence[str]) -> list[str] | None:
    if ALL not in given:
        return sorted(set(given))
    if len(set(given)) > 1:
        raise click.BadParameter(f"{ALL} goes with no other", param_hint=f"'--{option}'")
    return None


def _number(option: str, text: str, kind: Any) -> Any:
    if text == NONE:
        return None
    try:
        found = kind(text)
    except (ValueError, InvalidOperation):
        found = None
    if found is None or found != found:  # noqa: PLR0124 - only NaN differs from itself
        named = option.replace("_", "-")
        word = "a whole number" if kind is int else "a number"
        raise click.BadParameter(f"write {word}, or {NONE}", param_hint=f"'--{named}'")
    return found
