"""How a request to the stand-in of the Bot API is to go wrong."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BAD_GATEWAY",
    "BLOCKED",
    "CUT",
    "CUT_AFTER_ACCEPTING",
    "WRONG_CHAT",
    "WRONG_TOKEN",
    "Fault",
    "too_many",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """How a request is to go wrong.

    ``status`` and ``description``: the refusal (0: none). ``retry_after``: seconds, for 429.
    ``delay_seconds``: wait first. ``accept``: the message is kept nevertheless. ``drop``: the
    connection is cut instead of an answer. ``raw``: answer this instead of JSON.
    ``migrate_to``: the chat has become that supergroup.
    """

    status: int = 0
    description: str = ""
    retry_after: int | None = None
    delay_seconds: float = 0.0
    accept: bool = False
    drop: bool = False
    raw: str | None = None
    migrate_to: int | None = None


WRONG_CHAT = Fault(400, "Bad Request: chat not found")
WRONG_TOKEN = Fault(401, "Unauthorized")
BLOCKED = Fault(403, "Forbidden: bot was blocked by the user")
BAD_GATEWAY = Fault(502, "Bad Gateway")
CUT = Fault(drop=True)
CUT_AFTER_ACCEPTING = Fault(drop=True, accept=True)


def too_many(retry_after: int) -> Fault:
    """Answer 429 with so many seconds to wait."""
    description = f"Too Many Requests: retry after {retry_after}"
    return Fault(429, description, retry_after=retry_after)
