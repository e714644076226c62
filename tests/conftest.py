"""Fixtures that more than one kind of test asks for."""

from __future__ import annotations
