"""What the audit trail tells of: the names of acts, as they are stored and filtered by. Pure."""

from __future__ import annotations

__all__ = ["ACTS"]

ACTS = (
    *("breaker opened", "breaker closed", "cancel", "endpoint added", "endpoint changed"),
    *("endpoint removed", "endpoint secret rotated", "endpoint secret rotation finished"),
    *("endpoint secret reencrypted",),
    *("paused", "replay", "resend", "resumed", "skip"),
)
