"""How requests reach receivers: an httpx transport over aiohttp's connections."""

from __future__ import annotations

from signalpost.transport.client import AiohttpTransport
from signalpost.transport.progress import AttemptFailed, LastCheck, Progress

__all__ = ["AiohttpTransport", "AttemptFailed", "LastCheck", "Progress"]
