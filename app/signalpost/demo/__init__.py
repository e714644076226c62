"""The demonstration: a real strategy's signals on real servers, counted from both ends."""

from __future__ import annotations
