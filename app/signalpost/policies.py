"""How an endpoint is delivered to: its own values, else the settings'."""

from __future__ import annotations

import math
from functools import lru_cache

from signalpost.core.backoff import Backoff, usable_waits
from signalpost.core.lifecycle import Policy
from signalpost.repository.claimed import Claim
from signalpost.settings import Settings


def policy_of(claim: Claim, settings: Settings) -> Policy:
    """Return the endpoint's policy: its own values, else the settings'.

    So also for values that no command stores: a row that somebody wrote by hand holds up nobody.
    """
    retries = claim.max_retries
    return _policy(
        _seconds(claim.timeout_seconds, settings.outbound_timeout_seconds),
        settings.max_retries if retries is None else retries,
        _seconds(claim.retry_delay_seconds, settings.retry_delay_seconds),
        usable_waits(claim.retry_schedule_seconds or ()),
        claim.on_unknown,
    )


# Asked twice for each attempt, and there are no more policies than endpoints.
@lru_cache(maxsize=4096)
def _policy(
    timeout: float, retries: int, base: float, waits: tuple[float, ...], on_unknown: str
) -> Policy:
    return Policy(
        timeout_seconds=timeout,
        max_retries=len(waits) if waits else retries,
        backoff=Backoff(base, waits_seconds=waits),
        on_unknown="stop" if on_unknown == "stop" else "retry",
    )


def _seconds(own: float | None, fallback: float) -> float:
    return own if own is not None and math.isfinite(own) and own > 0 else fallback
