"""The pace of an endpoint: its rate limit, and that at which a released backlog goes out.

Both are a virtual schedule (GCRA): `rate_next_at` is when the next delivery would be due at an even
pace, and so many may be ahead of it as the burst allows. The claim that takes within it moves it
on, under the endpoint's lock (taking.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from signalpost.core.breaker import RELEASE_PER_SECOND, RELEASE_SECONDS
from signalpost.repository.looking import NOW

__all__ = ["AHEAD", "PACE", "RATE_BURST", "paced_wait"]

SHORTEST_WAIT_SECONDS = 0.005
EVEN_SECONDS = 0.05
"""One that is on its pace by now may have been ahead a moment ago, when it was passed over."""

RATE_BURST = 0.04
"""Part of a second's deliveries that a rate limit lets through at once; at least one."""

# A released backlog starts slowly, and a rate of its own binds as well; NULL binds nothing.
PACE = f"""LEAST(e.rate_per_second,
        CASE WHEN e.released_at > {NOW} - make_interval(secs => {RELEASE_SECONDS})
        THEN {RELEASE_PER_SECOND}
            * power(2, GREATEST(0, EXTRACT(EPOCH FROM {NOW} - e.released_at)::float8)) END)"""

# Seconds by which `rate_next_at` is ahead. More than the rate allows comes of a slower rate that
# was in force before, or of a clock that was set back: that binds nobody.
AHEAD = f"""(
    SELECT CASE WHEN gap > 1 + GREATEST(1 / pace.rate, {RATE_BURST}) THEN 0
        ELSE GREATEST(0, gap) END AS seconds
    FROM (SELECT EXTRACT(EPOCH FROM e.rate_next_at - {NOW})::float8 AS gap) raw)"""

_PACED_WAIT = text(f"""
SELECT min(CASE WHEN ahead.seconds > 0 THEN ahead.seconds ELSE {EVEN_SECONDS} END)
FROM signalpost.endpoints e
CROSS JOIN LATERAL (SELECT {PACE} AS rate) pace
CROSS JOIN LATERAL {AHEAD} ahead
WHERE e.id = ANY(CAST(:endpoint_ids AS bigint[])) AND pace.rate IS NOT NULL
""")


def paced_wait(
    connection: Connection, endpoint_ids: Sequence[int], *, now: datetime | None
) -> float | None:
    """Seconds until the first of these that have a pace may have more; None: none has a pace."""
    values = {"endpoint_ids": list(endpoint_ids), "now": now}
    found: float | None = connection.execute(_PACED_WAIT, values).scalar_one()
    return None if found is None else max(found, SHORTEST_WAIT_SECONDS)
