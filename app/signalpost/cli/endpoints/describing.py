"""An endpoint as a person or a program sees it: its own values, what holds else, its rotation."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from signalpost.cli.printing import age, utc

if TYPE_CHECKING:
    from signalpost.repository.endpoints import EndpointView
    from signalpost.settings import Settings

__all__ = ["policy_facts", "policy_row", "public", "secret_line"]

_PUBLIC = (
    "id",
    "name",
    "url",
    "secret_version",
    "previous_secret_until",
    "timeout_seconds",
    "max_retries",
    "retry_delay_seconds",
    "ttl_seconds",
    "on_unknown",
    "created_at",
)


def public(view: EndpointView, now: datetime) -> dict[str, Any]:
    """What a program may see. `previous_secret_until` is null where no secret rotates.

    `now` is database time.
    """
    # By name, so that a column that is added one day does not slip out.
    shown = asdict(view)
    if not view.rotates(now):
        shown["previous_secret_until"] = None
    return {name: shown[name] for name in _PUBLIC}


def policy_facts(view: EndpointView, settings: Settings) -> tuple[tuple[str, object], ...]:
    """The policy that holds, and whose word each value is."""
    return (
        ("timeout", _seconds(view.timeout_seconds, settings.outbound_timeout_seconds)),
        ("retries", _own(view.max_retries, settings.max_retries)),
        ("retry delay", _seconds(view.retry_delay_seconds, settings.retry_delay_seconds)),
        ("ttl", _seconds(view.ttl_seconds, settings.signal_ttl_seconds)),
        ("on unknown", view.on_unknown),
    )


def policy_row(view: EndpointView, settings: Settings) -> list[object]:
    """The same values alone."""
    return [value for _, value in policy_facts(view, settings)]


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
