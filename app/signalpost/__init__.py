"""Delivers trading signals, signed, to HTTP endpoints: never lost, never late, never silent."""

from __future__ import annotations

__all__: list[str] = []
