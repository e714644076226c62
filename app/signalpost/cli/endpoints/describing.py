"""An endpoint as a person or a program sees it: its own values, what holds else, its rotation."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from signalpost.cli.printing import age, utc
from signalpost.core.backoff import usable_waits

if TYPE_CHECKING:
    from signalpost.repository.endpoints import EndpointView
    from signalpost.settings import Settings

__all__ = ["order", "policy_facts", "policy_row", "public", "secret_line", "takes"]


def public(view: EndpointView, now: datetime) -> dict[str, Any]:
    """What a program may see. `previous_secret_until` is null where no secret rotates.

    `now` is database time.
    """
    from signalpost.repository.endpoint_changes import CHANGEABLE

    # By name, so that a column does not slip out; what becomes CHANGEABLE one day is shown.
    names = ("id", "name", "secret_version", "previous_secret_until", *CHANGEABLE, "created_at")
    shown = asdict(view)
    if not view.rotates(now):
        shown["previous_secret_until"] = None
    return {**{name: shown[name] for name in names}, "headers": sorted(view.headers)}


def policy_facts(view: EndpointView, settings: Settings) -> tuple[tuple[str, object], ...]:
    """The policy that holds, and whose word each value is."""
    rate = view.rate_per_second
    return (
        *_schedule(view, settings),
        ("takes", takes(view)),
        ("order", order(view)),
        ("in flight", "any number" if view.max_in_flight is None else f"{view.max_in_flight}"),
        ("rate", "any" if rate is None else f"{rate:g}/s"),
        ("extra headers", ", ".join(sorted(view.headers)) or "none"),
    )


def policy_row(view: EndpointView, settings: Settings) -> list[object]:
    """What a list has room for."""
    return [*(value for _, value in _schedule(view, settings)), takes(view), order(view)]


def takes(view: EndpointView) -> str:
    """The filter, in words."""
    parts = [" ".join(named) for named in (view.instruments, view.sides, view.actions) if named]
    if view.producers:
        parts.append("from " + " ".join(view.producers))
    if view.min_confidence is not None:
        parts.append(f"confidence {view.min_confidence} up")
    return ", ".join(parts) or "everything"


def order(view: EndpointView) -> str:
    """Whether order is kept, and what a dead one means for it."""
    return f"kept, a dead one: {view.on_dead}" if view.ordered else "not kept"


def _schedule(view: EndpointView, settings: Settings) -> tuple[tuple[str, object], ...]:
    return (
        ("timeout", _seconds(view.timeout_seconds, settings.outbound_timeout_seconds)),
        *_retries(view, settings),
        ("ttl", _seconds(view.ttl_seconds, settings.signal_ttl_seconds)),
        ("on unknown", view.on_unknown),
    )


def _retries(view: EndpointView, settings: Settings) -> tuple[tuple[str, object], ...]:
    waits = usable_waits(view.retry_schedule_seconds or ())
    if waits:
        listed = ", ".join(f"{wait:g}" for wait in waits)
        return ("retries", len(waits)), ("retry delay", f"{listed} s")
    return (
        ("retries", _own(view.max_retries, settings.max_retries)),
        ("retry delay", _seconds(view.retry_delay_seconds, settings.retry_delay_seconds)),
    )


def secret_line(view: EndpointView, now: datetime) -> str:
    """The secret's version, and how long the one before signs as well."""
    version = f"version {view.secret_version}"
    if not view.rotates(now) or view.previous_secret_until is None:
        return version
    left = age((view.previous_secret_until - now).total_seconds())
    return (
        f"{version}; version {view.secret_version - 1} signs as well until "
        f"{utc(view.previous_secret_until)} (for {left})"
    )


def _seconds(own: float | None, common: float) -> str:
    return f"{own:g} s" if own is not None else f"{common:g} s (settings)"


def _own(own: int | None, common: int) -> str:
    return str(own) if own is not None else f"{common} (settings)"
