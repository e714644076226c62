"""Whom the stand-in of the Bot API takes for its bot and its chat."""

from __future__ import annotations

import secrets

__all__ = ["CHAT", "TOKEN"]

TOKEN = f"123456:{secrets.token_urlsafe(20)}"
CHAT = "4711"
