"""All checks, side by side where they do not need each other, each within its time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from signalpost.doctor.broker import look_at_redis
from signalpost.doctor.findings import Finding, failure, skipped
from signalpost.doctor.meanings import of_answer, of_certificate, of_connection
from signalpost.doctor.outbox import DEPENDENT, Outbox, look_at_outbox
from signalpost.doctor.receivers import Receivers, receivers
from signalpost.doctor.surroundings import look_at_disk, look_at_settings, look_at_telegram
from signalpost.errors import SecretError
from signalpost.repository.endpoints import EndpointView
from signalpost.secretbox import SecretBox
from signalpost.settings import Settings

__all__ = ["examine", "without_settings"]

CHECK_SECONDS = 12.0
"""For one check, all of its steps together."""
RECEIVER_SECONDS = 10.0
RECEIVERS_AT_ONCE = 50

Found = TypeVar("Found")
Otherwise = Callable[[str], Found]
"""What stands for a check that came to no end, made from the reason."""


async def examine(settings: Settings, *, post: bool) -> list[Finding]:
    """Look at everything; takes at most about 30 s, mostly one or two.

    Args:
        settings: of this environment.
        post: also post a signed test to each endpoint. Without it nothing is posted anywhere.
    """
    outbox, redis, telegram = await asyncio.gather(
        _within(look_at_outbox(settings), _no_outbox),
        _within(look_at_redis(settings), lambda why: [_broken("redis", why)]),
        _within(_listed(look_at_telegram(settings)), lambda why: [_broken("telegram", why)]),
    )
    return [
        look_at_settings(settings),
        *outbox.findings,
        *redis,
        *telegram,
        look_at_disk(settings, outbox.facts),
        *await _endpoints(settings, outbox, post=post),
    ]


def without_settings(why: str) -> list[Finding]:
    """What is left to say where the settings cannot be read."""
    told, _, remedy = why.partition("; ")
    others = ("database", *DEPENDENT, "redis", "telegram", "disk", "endpoints")
    return [
        failure("settings", told, remedy or "correct it and run this again"),
        *(skipped(name, "the settings cannot be used") for name in others),
    ]


async def _endpoints(settings: Settings, outbox: Outbox, *, post: bool) -> list[Finding]:
    if outbox.now is None:
        return [skipped("endpoints", "they are in the database")]
    if not outbox.views:
        told = "there are none: a signal that is enqueued has nowhere to go"
        return [failure("endpoints", told, "add one by `signalpost endpoint add NAME URL`")]
    places = asyncio.Semaphore(RECEIVERS_AT_ONCE)
    now = outbox.now

    async def one(tried: Receivers, view: EndpointView) -> list[Finding]:
        async with places:
            check = f"endpoint {view.name}"
            work = _listed(_try(check, tried, view, settings, now, post=post))
            return await _within(work, lambda why: [_broken(check, why)])

    async with receivers(settings) as tried:
        found = await asyncio.gather(*(one(tried, view) for view in outbox.views))
    return [finding for findings in found for finding in findings]


async def _try(
    check: str,
    tried: Receivers,
    view: EndpointView,
    settings: Settings,
    now: datetime,
    *,
    post: bool,
) -> Finding:
    if not post:
        reached = await tried.reach(view, timeout_seconds=RECEIVER_SECONDS)
        encrypted = view.url.lower().startswith("https:")
        found = of_connection(check, reached.answer, encrypted=encrypted)
        return of_certificate(found, reached.certificate_end, now=datetime.now(UTC))
    try:
        reached = await tried.post(
            view, SecretBox(settings.secret_keys), now=now, timeout_seconds=RECEIVER_SECONDS
        )
    except SecretError:
        return skipped(check, "its secret cannot be read")
    wall = datetime.now(UTC)
    found = of_answer(check, reached.answer, now=wall)
    return of_certificate(found, reached.certificate_end, now=wall)


async def _listed(work: Awaitable[Finding]) -> list[Finding]:
    return [await work]


async def _within(work: Awaitable[Found], otherwise: Otherwise[Found]) -> Found:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await work
    except TimeoutError:
        return otherwise(f"no end within {CHECK_SECONDS:g} s")
    except Exception as error:  # noqa: BLE001 - one check that fails must not hide the others
        return otherwise(f"the check itself failed ({type(error).__name__})")


def _broken(check: str, why: str) -> Finding:
    return failure(check, why, "see whether what it looks at answers at all")


def _no_outbox(why: str) -> Outbox:
    known = [skipped(name, "the database does not answer") for name in DEPENDENT]
    return Outbox(findings=[_broken("database", why), *known])
