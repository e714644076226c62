"""What a courier answers: a receipt, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Receipt", "Refused"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """The message arrived; ``text`` is what the courier can show for it, such as its id."""

    text: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The message did not arrive, as far as is known.

    ``reason``: one line with cause and remedy, no secrets. ``retry_after_seconds``: the courier
    must stay silent for so long. ``permanent``: only a person can mend it. ``unreadable``: the text
    itself is what Telegram does not take.
    """

    reason: str
    retry_after_seconds: float | None = None
    permanent: bool = False
    unreadable: bool = False
